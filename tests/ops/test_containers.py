"""Dockerfile, compose file and shell scripts, by the tools that read them."""

import json
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.hub.fetch import HUB_VARIABLE
from service.core.settings import Settings

ROOT = Path(__file__).parents[2]
Tool = Callable[[str], str]

ALWAYS = {"valkey", "prometheus"}
AROUND = ALWAYS | {"proxy", "ready", "worker-safety"}
GPU = AROUND | {"worker-image"}
PROFILES = {
    "box": AROUND | {"api", "worker-image-box", "worker-chat-box", "worker-paint-box"},
    "one-gpu": GPU | {"api", "worker-chat", "worker-paint"},
    "two-gpus": GPU | {"api", "worker-chat", "worker-paint-second-gpu"},
    "chat": GPU | {"api-chat", "worker-chat"},
    "paint": GPU | {"api-paint", "worker-paint"},
    "fetch": ALWAYS | {"fetch"},
}


def _run(*command: str, **variables: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("VISCPM_", "COMPOSE_"))}
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, env=clean | variables)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def _services(tool: Tool, profile: str, **variables: str) -> dict[str, dict[str, Any]]:
    described = _run(tool("docker-compose"), "--profile", profile, "config", "--format", "json", **variables)
    services: dict[str, dict[str, Any]] = json.loads(described)["services"]
    return services


def test_hadolint_has_nothing_to_say(tool: Tool) -> None:
    assert _run(tool("hadolint"), "Dockerfile") == ""


def test_shell_scripts_pass_shellcheck(tool: Tool) -> None:
    scripts = [".ci/run", *(str(path.relative_to(ROOT)) for path in (ROOT / "docker").glob("*.sh"))]
    _run(tool("shellcheck"), *scripts)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_profile_runs(tool: Tool, profile: str) -> None:
    services = _services(tool, profile)
    assert set(services) == PROFILES[profile]
    known = {f"VISCPM_{name.upper()}" for name in Settings.model_fields} | {HUB_VARIABLE}
    for name, service in services.items():
        unknown = {key for key in service.get("environment", {}) if key.startswith("VISCPM_")} - known
        assert not unknown, f"{name} sets {unknown}, which no setting reads"
        if name in ("worker-chat", "worker-paint", "worker-paint-second-gpu"):
            assert service["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
        else:
            assert "deploy" not in service or "resources" not in service["deploy"]  # on the processor
        if name in ("worker-chat-box", "worker-paint-box"):
            empty = [name for name, value in service["environment"].items() if not value]
            assert empty == ["VISCPM_CHAT_CHECKPOINT", "VISCPM_PAINT_CHECKPOINT"], "the images name folders of the host"
            assert service["networks"]["default"]["aliases"] == [name.removesuffix("-box")], "where Prometheus looks"
        if name == "ready":  # made anew with them, it waits for models that load again
            assert (
                service["environment"]["VISCPM_REDIS_URL"]
                == services["worker-safety"]["environment"]["VISCPM_REDIS_URL"]
            )
        elif "VISCPM_REDIS_URL" in service.get("environment", {}) and name != "proxy":
            assert service["depends_on"]["valkey"]["condition"] == "service_healthy"


@pytest.mark.parametrize("profile", PROFILES)
def test_everything_that_runs_is_hardened_and_bounded(tool: Tool, profile: str) -> None:
    for name, service in _services(tool, profile).items():
        if service.get("scale") == 0:
            continue
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert name == "fetch" or int(service["mem_limit"]) > 0, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind" and volume["target"] == "/models":
                assert volume["bind"]["create_host_path"] is False, "it would belong to root"


@pytest.mark.parametrize("profile", PROFILES)
def test_each_image_is_built_once(tool: Tool, profile: str) -> None:
    services = _services(tool, profile).values()
    built = [service["image"] for service in services if "build" in service]
    assert len(built) == len(set(built))
    for service in services:
        if service["image"].startswith("viscpm-"):
            assert service["image"] in built


@pytest.mark.parametrize("profile", ["box", "one-gpu", "two-gpus", "chat", "paint"])
def test_what_is_stopped_first_is_what_needs_the_others(tool: Tool, profile: str) -> None:
    """Compose stops in the opposite order of `depends_on`: proxy, API, model workers, safety worker, server."""
    services = _services(tool, profile)
    stages = {"ready": 0, "proxy": 1, "api": 2, "worker": 3, "worker-safety": 4, "valkey": 5}

    def stage(name: str) -> int:
        return stages.get(name, stages[name.partition("-")[0]])

    ordered = [name for name in services if name != "prometheus" and services[name].get("scale") != 0]
    for name in ordered:
        below = set(services[name].get("depends_on", {})) & set(services)
        assert all(stage(other) > stage(name) for other in below)
        missing = {other for other in ordered if stage(other) == stage(name) + 1} - below
        assert not missing, f"{name} may be stopped after {missing}"


def test_the_time_to_stop_follows_the_drain(tool: Tool) -> None:
    for given, expected in (({}, "40s"), ({"VISCPM_DRAIN_S": "90"}, "1m40s")):
        services = _services(tool, "box", **given)
        for name in ("proxy", "api", "worker-chat-box", "worker-paint-box", "worker-safety"):
            assert services[name]["stop_grace_period"] == expected
        assert services["api"]["environment"]["VISCPM_DRAIN_S"] == given.get("VISCPM_DRAIN_S", "30")


def test_whether_keys_are_asked_for_is_said_and_can_be_changed(tool: Tool) -> None:
    """The API listens on all addresses of its container, so it starts only where that is said."""
    for given, expected in (({}, "off"), ({"VISCPM_AUTH": "on"}, "on")):
        assert _services(tool, "box", **given)["api"]["environment"]["VISCPM_AUTH"] == expected


def test_workers_of_one_gpu_share_the_folder_by_which_they_take_turns(tool: Tool) -> None:
    for given, expected in (({}, "off"), ({"VISCPM_DEVICE_SHARING": "turns"}, "turns")):
        services = _services(tool, "one-gpu", **given)
        for name in ("worker-chat", "worker-paint"):
            environment = services[name]["environment"]
            assert environment["VISCPM_DEVICE_SHARING"] == expected
            (volume,) = [one for one in services[name]["volumes"] if one["type"] == "volume"]
            assert (volume["source"], volume["target"]) == ("device-locks", environment["VISCPM_DEVICE_LOCK_DIR"])
    assert not any(one["type"] == "volume" for one in services["worker-safety"]["volumes"])


def test_an_own_server_and_other_gpus_need_no_change_of_the_file(tool: Tool) -> None:
    own = "rediss://elsewhere:6380/1"
    services = _services(tool, "two-gpus", VISCPM_REDIS_URL=own, VISCPM_CHAT_GPU="3", VISCPM_PAINT_GPU="GPU-ab")
    for name in ("api", "worker-chat", "worker-paint-second-gpu", "worker-safety"):
        assert services[name]["environment"]["VISCPM_REDIS_URL"] == own

    def gpus(name: str, **variables: str) -> list[str]:
        devices = _services(tool, "two-gpus", **variables)[name]["deploy"]["resources"]["reservations"]["devices"]
        named: list[str] = devices[0]["device_ids"]
        return named

    assert gpus("worker-chat") == ["0"] and gpus("worker-paint-second-gpu") == ["1"]
    assert gpus("worker-chat", VISCPM_CHAT_GPU="3") == ["3"]
    assert gpus("worker-paint-second-gpu", VISCPM_PAINT_GPU="GPU-ab") == ["GPU-ab"]


def test_the_file_for_this_machine_wins_over_defaults_and_shell(tool: Tool, tmp_path: Path) -> None:
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    (tmp_path / "docker").mkdir()
    shutil.copy(ROOT / "docker/defaults.env", tmp_path / "docker")
    (tmp_path / "docker/viscpm.env").write_text("VISCPM_REDIS_URL=redis://mine:6379/0\nVISCPM_MAX_BODY_BYTES=1048576\n")
    compose = [tool("docker-compose"), "--project-directory", str(tmp_path), "-f", str(tmp_path / "docker-compose.yml")]
    described = _run(
        *compose, "--profile", "box", "config", "--format", "json", VISCPM_REDIS_URL="redis://shell:6379/0"
    )
    services = json.loads(described)["services"]
    for name in ("api", "worker-chat-box", "worker-safety"):
        assert services[name]["environment"]["VISCPM_REDIS_URL"] == "redis://mine:6379/0"
    for name in ("api", "proxy"):
        assert services[name]["environment"]["VISCPM_MAX_BODY_BYTES"] == "1048576", "the proxy's limit is the API's"


def test_the_health_check_script() -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health/live" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    def check(port: str, path: str) -> tuple[int, str]:
        command = [str(ROOT / "docker/healthcheck.sh"), "127.0.0.1", port, path]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return ended.returncode, ended.stdout

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        port = str(server.server_port)
        try:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert check(port, "/health/live") == (0, f"127.0.0.1:{port}/health/live: 200 OK\n")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            code, told = check(port, "/health/ready")
            assert code == 1 and "503 Service Unavailable" in told
        finally:
            server.shutdown()
    assert check(port, "/health/live")[0] == 1
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used_s < 0.03, f"{used_s} s of a processor, every 5 s in each container"  # 0.002 on the machine of the docs
