"""The process of a rank that follows: `python -m models.engines.chat.parallel FILE_DESCRIPTOR PARENT`."""

import ctypes
import os
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1


def main(file_descriptor: int, parent_pid: int) -> int:
    # Rank 0 decides when to end; a signal to the whole group of processes must not break what it has in hand
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere the closed socket ends it, after the collective in progress
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            return 1
    from models.engines.chat.parallel.commands import Channel  # torch takes seconds
    from models.engines.chat.parallel.rank import follow

    return follow(Channel(socket.socket(fileno=file_descriptor)))


if __name__ == "__main__":
    code = main(int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)  # nothing may wait for a collective that never ends
