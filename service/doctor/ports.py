"""Whether the API's port is free, or this service's already; and the workers' port for metrics."""

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from service.core.settings import Settings
from service.doctor.findings import Finding, note, ok, problem
from service.process.api_server import BindError, bind, url_of

_CHECK = "ports"
_LIMIT_S = 3.0
_LISTENING = "0A"  # a socket's state in /proc/net/tcp


@dataclass(frozen=True)
class Ports:
    """What was found.

    Args:
        api_url: of an API of this service that runs there already; empty: none.
        api_ahead_s: its clock, of ours; None: not known.
    """

    findings: list[Finding]
    api_url: str = ""
    api_ahead_s: float | None = None


@dataclass(frozen=True)
class Holder:
    """The process that listens on a port."""

    pid: int
    arguments: tuple[str, ...]

    @property
    def is_of_this_service(self) -> bool:
        """By the program, not by the folder that it lies in, which may have any name."""
        return "service.process.cli" in self.arguments or "viscpm" in (Path(one).name for one in self.arguments[:2])

    def __str__(self) -> str:
        return f"process {self.pid} ({' '.join(self.arguments)[:80]})"


def check_ports(settings: Settings) -> Ports:
    """Of VISCPM_PORT and VISCPM_WORKER_METRICS_PORT on this machine."""
    workers = _workers_port(settings)
    try:
        with bind(settings.host, settings.port) as listener:
            told = f"{url_of(listener)} is free for the API" if settings.port else "the API takes a free one"
            return Ports([ok(_CHECK, told), *workers])
    except BindError as error:
        message = str(error)
    url = f"http://{_reachable(settings.host)}:{settings.port}"
    if (ahead_s := _ahead_of_us(url)) is not None:
        return Ports([ok(_CHECK, f"this service's API runs on {url}"), *workers], url, ahead_s)
    return Ports([_taken(message.split(";")[0], settings.port, "VISCPM_PORT"), *workers])


def _workers_port(settings: Settings) -> list[Finding]:
    if not settings.worker_metrics_port:
        return []
    try:
        with bind(settings.worker_metrics_host, settings.worker_metrics_port) as listener:
            return [ok(_CHECK, f"{url_of(listener)} is free for a worker's metrics")]
    except BindError as error:
        holder = _holder(settings.worker_metrics_port)
        if holder is not None and holder.is_of_this_service:
            return [note(_CHECK, f"a worker's metrics are on port {settings.worker_metrics_port} ({holder})")]
        message = str(error).split(";")[0]
        return [_taken(message, settings.worker_metrics_port, "VISCPM_WORKER_METRICS_PORT")]


def _taken(message: str, port: int, variable: str) -> Finding:
    holder = _holder(port)
    if "in use" not in message:
        return problem(
            _CHECK,
            message,
            "this machine has no such address, or this user may not listen there",
            f"have VISCPM_HOST name an address of this machine (127.0.0.1), and {variable} a port from 1024 on",
        )
    return problem(
        _CHECK,
        message,
        f"port {port} belongs to {holder or 'another program'}, which is no API of this service",
        f"stop it, or choose another port ({variable}; 0 takes a free one)",
    )


def _ahead_of_us(url: str) -> float | None:
    """How far the clock of this service's API is ahead; None: what listens there is none."""
    try:
        answer = httpx.get(f"{url}/health/live", timeout=_LIMIT_S, trust_env=False)
        if answer.json().get("status") not in ("live", "broken"):
            return None
        return parsedate_to_datetime(answer.headers["date"]).timestamp() - int(time.time())
    except (httpx.HTTPError, ValueError, KeyError, AttributeError):
        return None


def _reachable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _holder(port: int) -> Holder | None:
    """Where Linux tells it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().decode(errors="replace")
                return Holder(int(process.name), tuple(command.rstrip("\0").split("\0")))
        except OSError:  # of another user, or gone
            continue
    return None
