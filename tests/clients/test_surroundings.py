"""What stands around requests: proxies of the environment, and what metrics count."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.clients.asking import ask, encoded, refused
from tests.e2e.tree import metric
from tests.service.api_process import ROOT, ApiProcess

NOWHERE = "http://127.0.0.1:9"  # nothing listens there
PROXIES = {
    "http": {"http_proxy": NOWHERE, "HTTP_PROXY": NOWHERE, "no_proxy": ""},
    "all": {"all_proxy": "socks5://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9", "no_proxy": ""},
    "no scheme": {"http_proxy": "proxy.example:3128", "no_proxy": ""},
}


def run(variables: dict[str, str], *command: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = {**clean, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=ROOT)


def viscpm(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "service.process.cli", *arguments]


@pytest.mark.parametrize("kind", PROXIES)
def test_what_is_near_is_asked_without_a_proxy(api: ApiProcess, tmp_path: Path, kind: str) -> None:
    told = run(PROXIES[kind], *viscpm("chat", "echo 近", "--url", api.url))
    assert (told.returncode, told.stdout, told.stderr) == (0, "近\n", "")
    picture = tmp_path / "a.png"
    told = run(PROXIES[kind], *viscpm("paint", "a", "-o", str(picture), "--seed", "7", "--url", api.url))
    assert told.returncode == 0 and "seed 7" in told.stdout and picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["http", "all"])
def test_a_proxy_that_fails_is_one_line(kind: str) -> None:
    told = run(PROXIES[kind], *viscpm("chat", "echo x", "--url", "http://8.8.8.8:9"))
    assert told.returncode == (4 if kind == "http" else 2) and told.stdout == ""
    [line] = told.stderr.splitlines()
    assert "proxy" in line and "NO_PROXY" in line


@pytest.mark.parametrize("kind", PROXIES)
def test_the_health_check_asks_no_proxy(api: ApiProcess, kind: str) -> None:
    parts = urlsplit(api.url)
    command = ("bash", "docker/healthcheck.sh", str(parts.hostname), str(parts.port), "/health/live")
    told = run(PROXIES[kind], *command)
    assert told.returncode == 0 and "200" in told.stdout


def test_metrics_count_fetches_apart_from_pictures(client: httpx.Client) -> None:
    names = ("viscpm_image_fetch_rejected_total", "viscpm_image_rejected_total")

    def counted() -> list[float]:
        page = client.get("/metrics").text
        return [metric(page, name) for name in names]

    before = counted()
    refused(ask(client, image=encoded(b"no picture")), "image")
    refused(ask(client, image="no base64!"), "image")
    between = counted()
    assert [after - earlier for after, earlier in zip(between, before, strict=True)] == [0, 2]
    refused(ask(client, image="https://example.org/cat.png"), "image")
    assert [after - earlier for after, earlier in zip(counted(), between, strict=True)] == [1, 0]
