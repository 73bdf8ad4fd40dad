"""The checkpoint in the box: tiny, written on first start, untrained (random weights from a fixed seed).

The supervisor runs this file as a process of its own (`python -m service.box FOLDER`), since writing it takes torch.
"""

import fcntl
import importlib
import shutil
import sys
from pathlib import Path

from models.jobs import Model

SEED = 0


def box_folder(data_dir: Path) -> Path:
    return data_dir.absolute() / "checkpoints" / f"untrained-seed{SEED}"


def box_checkpoint(data_dir: Path, kind: Model) -> Path:
    return box_folder(data_dir) / kind


def write_box(folder: Path) -> None:
    """Write the checkpoints under a temporary name and rename: the folder is whole or absent, whatever is killed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():  # another process was first
            return
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        importlib.import_module("models.tiny").write_tiny_checkpoints(partial, SEED)
        partial.rename(folder)


if __name__ == "__main__":
    write_box(Path(sys.argv[1]))
