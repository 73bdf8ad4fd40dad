"""Who shares one device of this machine: whose turn it is, who waits, and what each of them has on it.

A folder for each device, for all processes that see the same files, be they in containers of their own:

    turn        locked (flock) by the worker that has the device
    queue       locked while the files are read and changed; holds the last ticket
    workers/*   one a worker, locked by it for as long as it lives; a `Place` as JSON

The kernel lets go of a dead process' locks, so nobody waits for one, and what it had does not count.
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec


class Place(msgspec.Struct):
    """One worker. `ticket`: its place in the line, the lowest is next; 0 where it does not wait."""

    kind: str
    weights_bytes: int = 0
    held_bytes: int = 0  # on the device now
    ticket: int = 0


class DeviceFull(MemoryError):
    """More than the device has would be on it; the message is one line."""


class QueueUnusable(RuntimeError):
    """The lock folder cannot be used; the message is one line."""


def default_folder() -> Path:
    """Of this user's processes: in the runtime folder where there is one, else in /tmp."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "viscpm" if runtime else Path(f"/tmp/viscpm-{os.getuid()}")


def places(folder: Path, device: str) -> list[Place]:
    """All workers of a device, for who only looks: none where nobody was yet."""
    if not (folder / device / "queue").exists():
        return []
    with (folder / device / "queue").open("rb") as mutex, _locked(mutex.fileno()):
        return [_decoder.decode(path.read_bytes()) for path in sorted((folder / device / "workers").iterdir())]


class DeviceQueue:
    """This worker's place among those that share a device. For one thread.

    Args:
        folder: of all devices.
        device: its name, the same for every process of the machine.
        kind: of this worker, for others to tell.

    Raises:
        QueueUnusable: the folder cannot be written to, or is another user's.
    """

    def __init__(self, folder: Path, device: str, kind: str) -> None:
        self._folder = folder / device
        self._workers = self._folder / "workers"
        self._own = Place(kind)
        self._path = self._workers / f"{kind}-{secrets.token_hex(8)}"
        self.is_held = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner(folder)
            self._workers.mkdir(parents=True, exist_ok=True)
            self._mutex = _opened(self._folder / "queue")
            self._turn = _opened(self._folder / "turn")
            with self._alone():
                self._file = _opened(self._path)
                fcntl.flock(self._file, fcntl.LOCK_EX)
                self._write()
        except OSError as error:
            raise QueueUnusable(f"the folder {folder} of device locks cannot be used: {error}") from error

    @staticmethod
    def _check_owner(folder: Path) -> None:
        """In /tmp anyone may have made it first, and would then decide who waits."""
        found = folder.lstat()
        if folder == default_folder() and (found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode)):
            raise QueueUnusable(f"the folder {folder} of device locks is not this user's own: set another one")

    @property
    def is_waiting(self) -> bool:
        return self._own.ticket > 0

    def ask(self) -> None:
        """To the end of the line, unless it waits already."""
        if self.is_waiting or self.is_held:
            return
        with self._alone():
            ticket = int(os.pread(self._mutex, 32, 0) or 0) + 1
            os.pwrite(self._mutex, str(ticket).encode(), 0)
            self._own.ticket = ticket
            self._write()

    def withdraw(self) -> None:
        """It waits no more."""
        if self.is_waiting:
            self._own.ticket = 0
            with self._alone():
                self._write()

    def try_take(self) -> bool:
        """Take the device if it is free and this worker's turn. It has to have asked."""
        if self.is_held:
            return True
        with self._alone():
            if any(0 < other.ticket < self._own.ticket for other in self._others()):
                return False
            try:
                fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._own.ticket = 0
            self._write()
        self.is_held = True
        return True

    def release(self) -> None:
        fcntl.flock(self._turn, fcntl.LOCK_UN)
        self.is_held = False

    def is_wanted(self) -> bool:
        """Whether another worker waits for the device."""
        with self._alone():
            return any(other.ticket for other in self._others())

    def account(self, held_bytes: int, limit_bytes: int) -> None:
        """Tell what this worker has on the device.

        Raises:
            DeviceFull: with what others have that is more than `limit_bytes`.
        """
        with self._alone():
            others_bytes = sum(other.held_bytes for other in self._others())
            if held_bytes + others_bytes > limit_bytes and held_bytes > self._own.held_bytes:
                raise DeviceFull(
                    f"{held_bytes / 1e9:.3f} GB do not fit on the device: it has {limit_bytes / 1e9:.3f} GB, others "
                    f"hold {others_bytes / 1e9:.3f}"
                )
            self._own.held_bytes = held_bytes
            self._write()

    def introduce(self, weights_bytes: int) -> list[Place]:
        """Tell the size of this worker's model -> the others."""
        with self._alone():
            self._own.weights_bytes = weights_bytes
            self._write()
            return self._others()

    def close(self) -> None:
        """Leave, as the kernel would have it."""
        with self._alone():
            self._path.unlink(missing_ok=True)
        for file in (self._file, self._turn, self._mutex):
            os.close(file)
        self.is_held = False

    def _alone(self) -> AbstractContextManager[None]:
        """No other process reads or changes the files meanwhile."""
        return _locked(self._mutex)

    def _others(self) -> list[Place]:
        """Those that live; the files of dead ones go."""
        found = []
        for path in self._workers.iterdir():
            if path == self._path:
                continue
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                found.append(_decoder.decode(os.pread(file, 4096, 0)))
            finally:
                os.close(file)
        return found

    def _write(self) -> None:
        data = msgspec.json.encode(self._own)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, data, 0)


@contextmanager
def _locked(file: int) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


_decoder = msgspec.json.Decoder(Place)
