"""A Debian with Python, make and nothing else: files and processes of its own, this machine's network.

What runs there sees no other process, and mounts are of its own: when it ends, nothing is left.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.containers.engine import run
from tests.containers.pip_settings import pip_told

PACKAGES = "python3,python3-venv,make,ca-certificates"
STOP_LIMIT_S = 60.0
_CERTIFICATES = "etc/package-index.crt"
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")

# Runs as process 1 among processes of its own: ROOT, folders to show there, --, a command
_ENTER = """
set -e
root=$1; shift
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
while [ "$1" != -- ]; do
  mkdir -p "$root$1"
  mount --bind "$1" "$root$1"
  shift
done
shift
exec chroot "$root" "$@"
"""


class BareMachine:
    """Made by debootstrap, from its mirror. Takes root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        told = {name: pip_told(name) for name in ("index-url", "extra-index-url", "find-links", "trusted-host")}
        told["extra-index-url"] = " ".join(
            url for url in told["extra-index-url"].split() if not url.startswith("file:")
        )
        self._wheels = [folder for folder in told["find-links"].split() if Path(folder).is_dir()]
        self._environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root"}
        self._environment |= {f"PIP_{name.upper().replace('-', '_')}": value for name, value in told.items() if value}
        self._environment |= {name: os.environ[name] for name in _PROXIES if name in os.environ}
        if certificates := pip_told("cert"):
            shutil.copy(certificates, root / _CERTIFICATES)
            self._environment["PIP_CERT"] = f"/{_CERTIFICATES}"

    @contextmanager
    def running(self, command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A shell's command that nobody answers; at the end Ctrl-C, and what is then left is killed."""
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        inside = ["/usr/bin/env", "-i", *variables, "/bin/sh", "-c", command]
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", _ENTER, "sh"]
        entered = [*alone, str(self.root), *self._wheels, "--", *inside]
        with log.open("wb") as said:
            process = subprocess.Popen(
                entered, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
