"""Who has the device: one at a time, in the order in which they asked, and never a dead one."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.engines.turns.device_queue import DeviceFull, DeviceQueue, QueueUnusable, default_folder, places

Join = Callable[..., DeviceQueue]


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Join]:
    """Another worker at the same device; each has files of its own, as each process has."""
    joined: list[DeviceQueue] = []

    def make(kind: str = "chat", device: str = "cpu") -> DeviceQueue:
        joined.append(DeviceQueue(tmp_path / "locks", device, kind))
        return joined[-1]

    yield make
    for queue in joined:
        queue.close()


def test_one_has_it_at_a_time(join: Join) -> None:
    first, second = join(), join("paint")
    first.ask()
    assert first.try_take() and first.is_held and not first.is_waiting
    assert first.try_take(), "it has it already"
    second.ask()
    assert second.is_waiting and not second.try_take()
    assert first.is_wanted() and not second.is_wanted()
    first.release()
    assert second.try_take() and not first.is_held


def test_devices_are_apart(join: Join) -> None:
    for queue in (join(device="cpu"), join(device="cuda-1")):
        queue.ask()
        assert queue.try_take() and not queue.is_wanted()


def test_it_goes_to_who_asked_first_and_not_back_at_once(join: Join) -> None:
    queues = [join() for _ in range(4)]
    for queue in queues:
        queue.ask()
    taken = []
    for _ in range(12):
        (number,) = [number for number, queue in enumerate(queues) if queue.try_take()]
        taken.append(number)
        queues[number].release()
        queues[number].ask()
        queues[number].ask()  # which keeps its place
    assert taken == [0, 1, 2, 3] * 3


def test_who_withdraws_is_waited_for_no_more(join: Join) -> None:
    first, second = join(), join()
    first.ask()
    second.ask()
    assert not second.try_take()
    first.withdraw()
    assert not first.is_waiting and not second.is_wanted()
    assert second.try_take()


@pytest.mark.own_process
@pytest.mark.parametrize("is_held", [True, False], ids=["holding", "first in the line"])
def test_a_killed_one_is_waited_for_no_more(join: Join, tmp_path: Path, is_held: bool) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from models.engines.turns.device_queue import DeviceQueue
        queue = DeviceQueue(Path({str(tmp_path / "locks")!r}), "cpu", "paint")
        queue.ask()
        if {is_held}:
            assert queue.try_take()
        queue.account(700, 1000)
        print("there", flush=True)
        time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        queue = join()
        queue.ask()
        assert not queue.try_take() and queue.is_wanted() == (not is_held)
        with pytest.raises(DeviceFull):
            queue.account(600, 1000)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout and process.stdout.close()
    assert queue.try_take() and not queue.is_wanted()
    queue.account(600, 1000)
    assert len(list((tmp_path / "locks/cpu/workers").iterdir())) == 1, "its file is gone"


def test_what_all_have_is_within_the_device(join: Join) -> None:
    first, second = join(), join()
    first.account(600, 1000)
    with pytest.raises(DeviceFull, match=r"0.000 GB do not fit on the device: it has 0.000 GB, others hold 0.000"):
        second.account(401, 1000)
    second.account(400, 1000)
    second.account(300, 500), "to give something back is always allowed"
    first.account(0, 1000)
    second.account(1000, 1000)


def test_they_know_each_other(join: Join, tmp_path: Path) -> None:
    assert places(tmp_path / "locks", "cpu") == []
    first, second = join("chat"), join("paint")
    assert [other.kind for other in first.introduce(20)] == ["paint"]
    (other,) = second.introduce(30)
    assert (other.kind, other.weights_bytes) == ("chat", 20)
    first.account(5, 10)
    assert [(place.kind, place.held_bytes) for place in places(tmp_path / "locks", "cpu")] == [
        ("chat", 5),
        ("paint", 0),
    ]


def test_the_default_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert default_folder() == Path(f"/tmp/viscpm-{os.getuid()}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_folder() == tmp_path / "viscpm"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    default_folder().symlink_to(elsewhere)
    with pytest.raises(QueueUnusable, match="is not this user's own"):
        DeviceQueue(default_folder(), "cpu", "chat")


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        QueueUnusable, match=rf"{tmp_path}/file/locks of device locks cannot be used: .*Not a directory"
    ):
        DeviceQueue(tmp_path / "file/locks", "cpu", "chat")
