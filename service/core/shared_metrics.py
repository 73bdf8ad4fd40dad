"""What the API processes of one tree count together: prometheus_client's multiprocess mode, in a folder of the tree's.

Each process counts in memory-mapped files of its own and any of them shows the sum, so it does not matter which one a
scrape reaches. The files go by the process' number in the tree and not by its id: one that is started in a dead one's
place goes on from that one's counts, and nothing goes backwards.
"""

import os
from pathlib import Path

from prometheus_client import values
from prometheus_client.multiprocess import MultiProcessCollector

_FILE_BYTES = 2**20  # of counters, of histograms; taken at the start, since a disk that is full later kills the process
_folder: Path | None = None


def share_metrics(folder: Path, number: int) -> None:
    """Count in `folder` from here on. Call once, before this process' first Metrics.

    Args:
        number: this process' among those that share the folder; no two that run have the same.

    Raises OSError: the folder cannot be written, or has no room.
    """
    global _folder
    for kind in ("counter", "histogram"):
        with open(folder / f"{kind}_{number}.db", "ab") as file:
            _reserve(file.fileno())
    (folder / f"{number}.pid").write_text(str(os.getpid()))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
    _folder = folder


def shared_collector() -> MultiProcessCollector | None:
    """Reads what all processes counted; None: this one counts alone."""
    return None if _folder is None else MultiProcessCollector(None, str(_folder))  # type: ignore[no-untyped-call]


def sharing_pids() -> list[int]:
    """The processes that count together; this one where it counts alone."""
    if _folder is None:
        return [os.getpid()]
    return [int(told) for path in sorted(_folder.glob("*.pid")) if (told := path.read_text()).isdigit()]


def _reserve(fd: int) -> None:
    missing_bytes = _FILE_BYTES - os.fstat(fd).st_size
    if missing_bytes > 0:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(fd, 0, _FILE_BYTES)
        else:
            os.truncate(fd, _FILE_BYTES)
