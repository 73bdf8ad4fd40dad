"""Children end with the process that started them, however it ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from service.process.parent_death import dies_with_parent
from tests.service.tree import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux: prctl")

# Starts a child that writes its pid, then hangs until it is killed
_PARENT = """
import subprocess, sys, signal, time
from service.process.parent_death import dies_with_parent
child = "import os, sys, time, signal\\n" + sys.argv[2] + "\\nprint(os.getpid(), flush=True)\\ntime.sleep(60)"
subprocess.Popen(dies_with_parent([sys.executable, "-c", child], signal.Signals(int(sys.argv[1]))))
time.sleep(60)
"""


def test_the_command_takes_the_childs_place_with_its_arguments() -> None:
    code = "import os, sys; print(os.getpid(), sys.argv[1:])"
    child = subprocess.Popen(
        dies_with_parent([sys.executable, "-c", code, "a b", "*", ""]), stdout=subprocess.PIPE, text=True
    )
    said, _ = child.communicate(timeout=20)
    assert said == f"{child.pid} ['a b', '*', '']\n" and child.returncode == 0


def test_exit_codes_and_signals_are_the_commands_own() -> None:
    assert subprocess.run(dies_with_parent([sys.executable, "-c", "raise SystemExit(7)"])).returncode == 7
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert subprocess.run(dies_with_parent([sys.executable, "-c", code])).returncode == -signal.SIGTERM


@linux
@pytest.mark.parametrize("death_signal", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_takes_its_child_along(death_signal: signal.Signals, tmp_path: Path) -> None:
    told = tmp_path / "signal"
    handler = f"def end(*_):\n    open({str(told)!r}, 'w').close()\n    os._exit(0)\nsignal.signal(signal.SIGTERM, end)"
    command = [sys.executable, "-c", _PARENT, str(int(death_signal)), handler]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running() and child.ppid() == parent.pid
        parent.kill()
        parent.wait(10)
        deadline_s = time.monotonic() + 10
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline_s, "the child outlived its parent"
            time.sleep(0.01)
        assert told.exists() is (death_signal == signal.SIGTERM)
    finally:
        parent.kill()
        parent.wait(10)
        if parent.stdout is not None:
            parent.stdout.close()


@linux
def test_a_child_whose_parent_is_gone_before_it_could_ask_never_begins(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    command = dies_with_parent([sys.executable, "-c", f"open({str(begun)!r}, 'w').close()"])
    # Started by a shell, its parent is not the process that wrote the command
    run = subprocess.run(["sh", "-c", '"$@"; echo $?', "sh", *command], capture_output=True, text=True)
    assert run.stdout == "1\n" and not begun.exists()
    assert str(os.getpid()) in command
