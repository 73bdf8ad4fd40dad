"""Twelve set-ups of which one thing is really broken: it is found, with its cause and its fix, and nothing else."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from models.checkpoints.bundled import bundled_checkpoint
from models.jobs import Model
from tests.redis_servers import RedisProcess
from tests.service.doctor.conftest import Doctor
from tests.service.doctor.crooked_clocks import LateRedis

pytestmark = pytest.mark.own_process

ROOT = Path(__file__).parents[3]


@dataclass
class Workshop:
    """What set-ups are broken with."""

    folder: Path
    start_redis: Callable[..., RedisProcess]
    copied: Callable[[Model], Path]
    open: ExitStack = field(default_factory=ExitStack)


def wrong_password(shop: Workshop) -> dict[str, str]:
    server = shop.start_redis("requirepass right", password="right")
    return {"REDIS_URL": server.url.replace("//", "//:wrong@")}


def evicting_policy(shop: Workshop) -> dict[str, str]:
    return {"REDIS_URL": shop.start_redis("maxmemory-policy allkeys-lru").url}


def missing_vocabulary(shop: Workshop) -> dict[str, str]:
    folder = shop.copied("chat")
    (folder / "vocab.txt").unlink()
    return {"CHAT_WORKERS": "1", "CHAT_CHECKPOINT": str(folder)}


def wrong_kind(shop: Workshop) -> dict[str, str]:
    return {"CHAT_WORKERS": "1", "CHAT_CHECKPOINT": str(bundled_checkpoint("paint"))}


def port_in_use(shop: Workshop) -> dict[str, str]:
    listener = shop.open.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.settimeout(0)
    return {"PORT": str(listener.getsockname()[1])}


def missing_vae(shop: Workshop) -> dict[str, str]:
    folder = shop.copied("paint")
    shutil.rmtree(folder / "vae")
    return {"PAINT_WORKERS": "1", "PAINT_CHECKPOINT": str(folder)}


def absent_gpu(shop: Workshop) -> dict[str, str]:
    return {"CHAT_WORKERS": "1", "CHAT_DEVICE": "cuda:15"}


def clock_off(shop: Workshop) -> dict[str, str]:
    late = shop.open.enter_context(LateRedis(shop.start_redis().address, late_s=3600))
    return {"REDIS_URL": late.url}


def missing_key(shop: Workshop) -> dict[str, str]:
    return {"REDIS_URL": shop.start_redis().url, "AUTH": "on"}


def misspelt_variable(shop: Workshop) -> dict[str, str]:
    return {"CHAT_DEVISE": "cuda"}


@pytest.mark.parametrize(
    ("broken", "check", "found", "cause", "fix"),
    [
        (wrong_password, "redis", "WRONGPASS", "user or password in VISCPM_REDIS_URL", "correct them"),
        (evicting_policy, "redis", "maxmemory-policy allkeys-lru", "throws keys away", "CONFIG SET maxmemory-policy"),
        (missing_vocabulary, "chat", "no vocabulary at", "holds no vocabulary", "VISCPM_CHAT_VOCAB"),
        (wrong_kind, "chat", "a Paint checkpoint, but a Chat one", "of the other model", "one of Chat"),
        (port_in_use, "ports", "Address already in use", "belongs to process", "VISCPM_PORT; 0"),
        (missing_vae, "paint", "no VAE", "holds no VAE", "viscpm checkpoint fetch sd21-base"),
        (absent_gpu, "chat", "device 'cuda:15'", "VISCPM_CHAT_DEVICE=cuda:15 asks", "VISCPM_CHAT_DEVICE=cpu"),
        (clock_off, "clock", "3600 s behind", "one of the two is wrong", "timedatectl set-ntp true"),
        (missing_key, "keys", "no key that is let in", "none was ever made", "viscpm keys create"),
        (misspelt_variable, "settings", "VISCPM_CHAT_DEVISE", "has its default", "to VISCPM_CHAT_DEVICE"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_broken_is_named_with_cause_and_fix(
    broken: Callable[[Workshop], dict[str, str]],
    check: str,
    found: str,
    cause: str,
    fix: str,
    doctor: Doctor,
    tmp_path: Path,
    start_redis: Callable[..., RedisProcess],
    copied: Callable[[Model], Path],
) -> None:
    shop = Workshop(tmp_path, start_redis, copied)
    with shop.open:
        code, report = doctor(**broken(shop))
    problems = [finding for finding in report["findings"] if finding["level"] == "problem"]
    assert (code, report["problems"], len(problems)) == (1, 1, 1), problems
    [told] = problems
    assert told["check"] == check
    assert found in told["found"] and cause in told["cause"] and fix in told["fix"], told


def test_a_full_disk(tmp_path: Path) -> None:
    """A disk of 1 MB, which is mounted for this process alone."""
    (tmp_path / "disk").mkdir()
    # Of every Linux, but not on every PATH
    unshare, program, sh = (shutil.which(name, path="/usr/bin:/bin") for name in ("unshare", "mount", "sh"))
    if unshare is None or program is None or sh is None:
        pytest.skip("Linux: no util-linux here")
    mount = f"{program} -t tmpfs -o size=1m none {tmp_path / 'disk'}"
    if subprocess.run([unshare, "-rm", sh, "-c", mount], capture_output=True).returncode != 0:
        pytest.skip("Linux: no user of its own may mount here")
    command = f"{mount} && VISCPM_DATA_DIR={tmp_path / 'disk'} exec {sys.executable} -m service.doctor"
    ended = subprocess.run([unshare, "-rm", sh, "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 1, ended.stderr
    assert f"PROBLEM  disk         1 MB free in {tmp_path / 'disk'} (the embedded server's data)" in ended.stdout
    assert "cause: the disk is full or all but" in ended.stdout
    assert "fix:   make room there, or have VISCPM_DATA_DIR name a folder on another disk" in ended.stdout
    assert ended.stdout.endswith("\n1 problem\n")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_an_old_python(flags: list[str]) -> None:
    """It says so, before it loads what an old one cannot."""
    code = (
        "import runpy, sys\nsys.version_info = (3, 8, 10, 'final', 0)\n"
        "try:\n    runpy.run_module('service.doctor', run_name='__main__', alter_sys=True)\n"
        "finally:\n    assert not {'pydantic', 'service.doctor.cli'} & set(sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 1, ended.stderr
    if flags:
        [told] = json.loads(ended.stdout)["findings"]
        assert told["found"] == "Python 3.8.10 runs this" and "Python 3.11 or newer" in told["cause"] and told["fix"]
    else:
        assert "PROBLEM  python       Python 3.8.10 runs this\n  cause: the service needs Python 3.11" in ended.stdout


def test_a_set_up_in_order(doctor: Doctor, start_redis: Callable[..., RedisProcess]) -> None:
    code, report = doctor(REDIS_URL=start_redis().url.replace("//", "//:unused@"), API_KEY="vk-secret")
    assert (code, report["problems"]) == (0, 0), report
    assert {"python", "settings", "gpu", "redis", "ports", "clock", "keys", "disk", "chat", "paint"} == {
        finding["check"] for finding in report["findings"]
    }
    sources = {setting["name"]: (setting["value"], setting["source"]) for setting in report["settings"]}
    assert sources["VISCPM_PORT"] == ("0", "environment")
    assert "unused" not in json.dumps(report) and "vk-secret" not in json.dumps(report)


def test_wrong_settings_end_the_examination(doctor: Doctor) -> None:
    code, report = doctor(PORT="many", QUEUE_SIZE="0")
    problems = [finding for finding in report["findings"] if finding["level"] == "problem"]
    assert code == 1
    assert [told["found"].partition(":")[0] for told in problems] == ["VISCPM_PORT=many", "VISCPM_QUEUE_SIZE=0"]
    assert "VISCPM_PORT (environment) holds what it cannot be" in problems[0]["cause"]
    assert report["findings"][-1]["found"] == "the rest is not examined before they are right"


def test_wrong_flags() -> None:
    from service.process.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--frobnicate"])
    assert ended.value.code == 2
