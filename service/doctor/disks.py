"""Whether the folders that the service writes to can be written, and have room."""

import os
import shutil
import tempfile
from pathlib import Path

from service.core.settings import Settings
from service.doctor.findings import Finding, note, ok, problem

_CHECK = "disk"
_MIB = 2**20
_LEAST_BYTES = 256 * _MIB  # below it a server that saves, or a log, ends within hours


def check_disks(settings: Settings) -> list[Finding]:
    """Of every folder that this machine's roles write to."""
    folders = [("temporary files", Path(tempfile.gettempdir()), "TMPDIR", 0)]
    if not settings.redis_url:
        limit_bytes = settings.embedded_max_memory_bytes
        folders.append(("the embedded server's data", settings.data_dir, "VISCPM_DATA_DIR", limit_bytes))
    if settings.safety_audit_file:
        folders.append(("verdicts", Path(settings.safety_audit_file).parent, "VISCPM_SAFETY_AUDIT_FILE", 0))
    return [_check(what, folder, variable, limit_bytes) for what, folder, variable, limit_bytes in folders]


def _check(what: str, folder: Path, variable: str, limit_bytes: int) -> Finding:
    """`limit_bytes`: to which what is kept there may grow; 0: not known."""
    there = _nearest(folder.absolute())
    if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
        return problem(
            _CHECK,
            f"{folder} cannot be written ({what})",
            f"{there} is no folder, or belongs to another user",
            f"have {variable} name a folder of this user's",
        )
    free_bytes = shutil.disk_usage(there).free
    told = f"{_told(free_bytes)} free in {folder} ({what})"
    if free_bytes < _LEAST_BYTES:
        return problem(
            _CHECK,
            told,
            f"the disk is full or all but: {_told(_LEAST_BYTES)} are the least, and what cannot be written is refused",
            f"make room there, or have {variable} name a folder on another disk",
        )
    if limit_bytes > free_bytes:
        return note(_CHECK, f"{told}; VISCPM_EMBEDDED_MAX_MEMORY_BYTES lets it grow to {_told(limit_bytes)}")
    return ok(_CHECK, told)


def _nearest(folder: Path) -> Path:
    """It, or what there is of the way to it."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _told(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 10**9 else f"{num_bytes / 1e6:.0f} MB"
