"""A Docker Engine: the one that answers here, else one of our own that leaves nothing behind."""

import ipaddress
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 60.0


class NoEngine(Exception):
    """None answers and none may be started; the message is one line."""


class Docker:
    """The command line of one engine."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {**os.environ, **environment}

    def __call__(self, *arguments: str, timeout_s: float = 900.0) -> str:
        """What it prints, standard error included. Raises RuntimeError with it where the command fails."""
        return run("docker", *arguments, environment=self.environment, timeout_s=timeout_s)

    def has_image(self, name: str) -> bool:
        command = ["docker", "image", "inspect", name]
        return subprocess.run(command, env=self.environment, capture_output=True).returncode == 0

    def size_bytes(self, image: str) -> int:
        return int(self("image", "inspect", "--format", "{{.Size}}", image))

    def bridge_address(self) -> str:
        """Where containers, and builds, find this machine."""
        described = json.loads(self("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]
        # Engine 20.10 names no gateway that it chose itself: the subnet's first address
        return described.get("Gateway") or str(next(ipaddress.ip_network(described["Subnet"]).hosts()))


@contextmanager
def engine() -> Iterator[Docker]:
    """Raises NoEngine."""
    if shutil.which("docker") is None:
        raise NoEngine("no docker command is here")
    if subprocess.run(["docker", "info"], capture_output=True).returncode == 0:
        yield Docker({})
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        raise NoEngine("no engine answers, and to start one takes root and dockerd (Debian: docker.io)")
    folder = Path(tempfile.mkdtemp(prefix="viscpm-docker-"))
    try:
        with _started(folder) as docker:
            yield docker
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _started(folder: Path) -> Iterator[Docker]:
    docker = Docker({"DOCKER_HOST": f"unix://{folder}/socket"})
    command = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/run"]
    command += ["--pidfile", f"{folder}/pid", "--host", f"unix://{folder}/socket"]
    log = folder / "log"
    with log.open("wb") as opened, subprocess.Popen(command, stdout=opened, stderr=opened) as process:
        try:
            deadline_s = time.monotonic() + START_S
            while subprocess.run(["docker", "info"], env=docker.environment, capture_output=True).returncode != 0:
                if process.poll() is not None or time.monotonic() > deadline_s:
                    last = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
                    raise NoEngine(f"dockerd does not start: {''.join(last)}")
                time.sleep(0.5)
            yield docker
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def run(
    *command: str, environment: dict[str, str] | None = None, timeout_s: float = 900.0, cwd: Path | None = None
) -> str:
    """What a command prints. Raises RuntimeError with the last of it where the command fails."""
    ended = subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:6])} … ended with {ended.returncode}:\n{ended.stdout[-3000:]}")
    return ended.stdout
