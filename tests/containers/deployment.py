"""The compose file's `box` profile from a copy of this tree, as a user of this machine would run it."""

import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.containers.engine import Docker, run
from tests.containers.pip_settings import pip_told

ROOT = Path(__file__).parents[2]
PROFILE = "box"
PROJECT = "viscpm-check"


class Deployment:
    """Compose commands against one engine, and the ways in.

    Args:
        folder: the copy of the tree.
        packages: how pip finds packages while images are built.
    """

    def __init__(self, docker: Docker, compose: str, folder: Path, packages: dict[str, str]) -> None:
        self.docker = docker
        self.folder = folder
        self._compose = compose
        self.url, self.prometheus_url = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
        clean = {name: value for name, value in docker.environment.items() if not name.startswith(("VISCPM_", "PIP_"))}
        self.environment = clean | packages
        self.environment |= {
            "COMPOSE_PROJECT_NAME": PROJECT,
            "VISCPM_TAG": "check",
            "VISCPM_PUBLISH": self.url.removeprefix("http://"),
            "PROMETHEUS_PUBLISH": self.prometheus_url.removeprefix("http://"),
        }

    def compose(self, *arguments: str, timeout_s: float = 1800.0) -> str:
        command = [self._compose, "--profile", PROFILE, *arguments]
        return run(*command, environment=self.environment, timeout_s=timeout_s, cwd=self.folder)

    def up(self, *arguments: str) -> float:
        """Start what is not there, and wait until all is healthy. The seconds that it took."""
        began_s = time.monotonic()
        try:
            self.compose("up", "--detach", "--wait", *arguments, timeout_s=240.0)
        except RuntimeError as error:
            said = self.compose("logs", "--tail", "40") + self.compose("ps", "--all")
            raise RuntimeError(f"{error}\n{said}") from None
        return time.monotonic() - began_s

    def containers(self, service: str) -> list[str]:
        """Names of a service's running ones."""
        labels = (f"label=com.docker.compose.project={PROJECT}", f"label=com.docker.compose.service={service}")
        filters = [part for label in labels for part in ("--filter", label)]
        return self.docker("ps", *filters, "--format", "{{.Names}}").split()

    def inspect(self, container: str) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self.docker("inspect", container))[0]
        return described

    def health(self, service: str) -> str:
        [container] = self.containers(service)
        status: str = self.inspect(container)["State"]["Health"]["Status"]
        return status

    def is_ready(self) -> bool:
        """What the service says of itself, at once; the container `ready` is some checks behind."""
        with self.client() as client:
            return client.get("/health/ready").status_code == 200

    def client(self, timeout_s: float = 60.0) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)

    @contextmanager
    def logs_of(self, *services: str) -> Iterator[Path]:
        """A file of what they say from now on; it outlives their containers."""
        path = self.folder / "followed.log"
        command = [self._compose, "--profile", PROFILE, "logs", "--follow", "--since", "0s", "--no-color", *services]
        with path.open("w") as file:
            following = subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=file, stderr=file)
            try:
                yield path
            finally:
                following.terminate()
                following.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Prometheus' instant vector."""
        url = f"{self.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        found: list[dict[str, Any]] = httpx.get(url, trust_env=False).json()["data"]["result"]
        return found

    def firing(self) -> set[tuple[str, str]]:
        """Alerts, each with its `model`, if it has one."""
        alerts = httpx.get(f"{self.prometheus_url}/api/v1/alerts", trust_env=False).json()["data"]["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("model", ""))
            for alert in alerts
            if alert["state"] == "firing"
        }


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> float:
    """The seconds until it was so."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < timeout_s, f"after {timeout_s:g} s not: {what}"
        time.sleep(0.25)
    return time.monotonic() - began_s


@contextmanager
def deployment(docker: Docker, folder: Path) -> Iterator[Deployment]:
    """A copy of the tree in `folder`, with alerts that fire in seconds; all that ran is gone afterwards."""
    compose = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if compose is None:
        raise RuntimeError("docker-compose is not installed (the extra `ops`)")
    _copy_tree(folder)
    _hurry_alerts(folder / "docker")
    with ExitStack() as stack:
        packages = _ways_to_packages(docker, folder, stack)
        if subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode != 0:
            # One after another, or each installs what it shares with the others; BuildKit sees to that itself
            packages |= {"DOCKER_BUILDKIT": "0", "COMPOSE_PARALLEL_LIMIT": "1"}
        running = Deployment(docker, compose, folder, packages)
        try:
            yield running
        finally:
            running.compose("down", "--volumes", "--timeout", "5", "--remove-orphans")


def _copy_tree(folder: Path) -> None:
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def _hurry_alerts(docker_folder: Path) -> None:
    """The same rules with seconds for minutes, read and asked every second."""
    rules = docker_folder / "alerts.yml"
    text = re.sub(r"for: \d+m", "for: 2s", rules.read_text())
    rules.write_text(text.replace("[5m:30s]", "[8s:1s]").replace("[1h:1m]", "[5m:1s]"))
    config = docker_folder / "prometheus.yml"
    config.write_text(re.sub(r"(_interval): 1[05]s", r"\1: 1s", config.read_text()))


def _ways_to_packages(docker: Docker, folder: Path, stack: ExitStack) -> dict[str, str]:
    """What pip is told on this machine, for builds: folders of wheels are served to them, certificates are copied."""
    told = {name: pip_told(name) for name in ("index-url", "extra-index-url", "find-links", "trusted-host", "cert")}
    if told["cert"]:
        shutil.copy(told["cert"], folder / "docker/certificates/machine.crt")
    address = docker.bridge_address()
    links = []
    for entry in told["find-links"].split():
        if Path(entry).is_dir():
            handler = partial(_Quiet, directory=entry)
            server = stack.enter_context(http.server.ThreadingHTTPServer((address, 0), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            links.append(f"http://{address}:{server.server_port}/")
        else:
            links.append(entry)
    packages = {
        "PIP_INDEX_URL": told["index-url"],
        "PIP_EXTRA_INDEX_URL": " ".join(url for url in told["extra-index-url"].split() if not url.startswith("file:")),
        "PIP_FIND_LINKS": " ".join(links),
        "PIP_TRUSTED_HOST": " ".join(filter(None, (told["trusted-host"], address if links else ""))),
    }
    if any(list(Path(entry).glob("torch-*+cpu-*.whl")) for entry in told["find-links"].split()):
        packages["TORCH_CPU_INDEX_URL"] = ""
    return packages


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
