"""Dockerfile, compose file and shell scripts, by the tools that read them."""

import json
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from service.core.settings import Settings

ROOT = Path(__file__).parents[2]
Tool = Callable[[str], str]

PROFILES = {
    "box": {"valkey", "prometheus", "api", "worker-chat-box", "worker-paint-box", "worker-safety"},
    "one-gpu": {"valkey", "prometheus", "api", "worker-chat", "worker-paint", "worker-safety"},
    "two-gpus": {"valkey", "prometheus", "api", "worker-chat", "worker-paint-second-gpu", "worker-safety"},
    "chat": {"valkey", "prometheus", "api-chat", "worker-chat", "worker-safety"},
    "paint": {"valkey", "prometheus", "api-paint", "worker-paint", "worker-safety"},
}


def _run(*command: str) -> str:
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_hadolint_has_nothing_to_say(tool: Tool) -> None:
    assert _run(tool("hadolint"), "Dockerfile") == ""


def test_shell_scripts_pass_shellcheck(tool: Tool) -> None:
    scripts = [".ci/run", *(str(path.relative_to(ROOT)) for path in (ROOT / "docker").glob("*.sh"))]
    _run(tool("shellcheck"), *scripts)


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_profile(tool: Tool, profile: str) -> None:
    compose = json.loads(_run(tool("docker-compose"), "--profile", profile, "config", "--format", "json"))
    services = compose["services"]
    assert set(services) == PROFILES[profile]
    known = {f"VISCPM_{name.upper()}" for name in Settings.model_fields}
    for name, service in services.items():
        unknown = {key for key in service.get("environment", {}) if key.startswith("VISCPM_")} - known
        assert not unknown, f"{name} sets {unknown}, which no setting reads"
        if name == "worker-safety" or profile == "box":
            assert "deploy" not in service  # on the processor
        elif name.startswith("worker"):
            assert service["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
        if name in ("worker-chat-box", "worker-paint-box"):
            empty = [name for name, value in service["environment"].items() if not value]
            assert empty == ["VISCPM_CHAT_CHECKPOINT", "VISCPM_PAINT_CHECKPOINT"], "the images name folders of the host"
            assert service["networks"]["default"]["aliases"] == [name.removesuffix("-box")], "where Prometheus looks"
        if name.startswith(("worker", "api")):
            assert service["depends_on"]["valkey"]["condition"] == "service_healthy"


def test_the_health_check_script(tool: Tool) -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health/live" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    script = str(ROOT / "docker" / "healthcheck.py")
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        port = str(server.server_port)
        try:
            assert subprocess.run(["python3", script, port, "/health/live"]).returncode == 0
            assert subprocess.run(["python3", script, port, "/health/ready"]).returncode == 1
        finally:
            server.shutdown()
    assert subprocess.run(["python3", script, port, "/health/live"]).returncode == 1
