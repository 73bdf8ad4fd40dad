"""Child processes that cannot outlive their parent, even one that was killed with SIGKILL.

`dies_with_parent(command)` wraps a command so that this file, run as a script, first asks the kernel for a signal on
the parent's death and then becomes the command (same pid). The kernel watches the *thread* that started the child:
start children from a thread that lives as long as they should. Systems without prctl (macOS) run the bare command.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def dies_with_parent(command: Sequence[str], death_signal: signal.Signals = signal.SIGKILL) -> list[str]:
    """`command` for Popen, dying by `death_signal` when the calling thread or its process ends."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), *command]


def _become(parent_pid: int, death_signal: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent_pid:  # it died before the request reached the kernel
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
