"""Take out of a folder of packages what no running program reads: `trim.py FOLDER`.

Shared libraries lose what stands after the parts that are loaded (symbols for debuggers: 12 of uvloop's 13.6 MB), and
sources of extensions, lists of parts and modules for tests go, and what packages say of themselves beyond their
versions, needs and licences. So does all of two packages but their data, which screens and models read.
"""

import struct
import sys
from pathlib import Path

_UNREAD = (".dist-info/RECORD", ".pyx", ".pxd", ".pxi", ".c", ".h", ".pyi", ".cdx.json", ".cyclonedx.json")
# Modules of libraries for who tests, checks types, or runs on trio: no program of ours imports them
_UNREAD_MODULES = ("mypy", "pytest_plugin", "testclient", "_trio")
_LOADED = 1  # PT_LOAD
_DATA_ALONE = {"glin_profanity": "data/dictionaries/*.json", "opencc": "dictionary/TS*.txt"}


def loaded_end(head: bytes) -> int:
    """Where the last loaded segment of a 64-bit little-endian ELF file ends; 0 for anything else."""
    if head[:6] != b"\x7fELF\x02\x01":
        return 0
    (start,) = struct.unpack_from("<Q", head, 32)
    entry_bytes, count = struct.unpack_from("<HH", head, 54)
    ends = [0]
    for number in range(count):
        kind, _, offset, _, _, size_bytes = struct.unpack_from("<IIQQQQ", head, start + number * entry_bytes)
        ends.append(offset + size_bytes if kind == _LOADED else 0)
    return max(ends)


def trim(folder: Path) -> int:
    """The bytes saved."""
    saved_bytes = _keep_data_alone(folder)
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        size_bytes = path.stat().st_size
        is_module = path.suffix in (".py", ".pyc") and path.name.split(".")[0] in _UNREAD_MODULES
        if is_module or path.as_posix().endswith(_UNREAD):
            path.unlink()
            saved_bytes += size_bytes
        elif path.name == "METADATA" and path.parent.suffix == ".dist-info":
            header, _, _ = path.read_bytes().partition(b"\n\n")  # after it comes the package's own README
            path.write_bytes(header + b"\n")
            saved_bytes += size_bytes - len(header) - 1
        elif ".so" in path.suffixes:
            with path.open("r+b") as library:
                end = loaded_end(library.read(65536))
                if 0 < end < size_bytes:
                    library.truncate(end)
                    for offset, zeros in ((40, 8), (58, 6)):  # e_shoff; e_shentsize, e_shnum, e_shstrndx
                        library.seek(offset)
                        library.write(bytes(zeros))
                    saved_bytes += size_bytes - end
    return saved_bytes


def _keep_data_alone(folder: Path) -> int:
    """The bytes saved."""
    saved_bytes = 0
    for name, data in _DATA_ALONE.items():
        for package in folder.glob(f"lib/python*/site-packages/{name}"):
            kept = set(package.glob(data))
            if not kept:
                raise SystemExit(f"{package} has no {data} any more: what is read of it?")
            for path in package.rglob("*"):
                if path.is_file() and path not in kept:
                    saved_bytes += path.stat().st_size
                    path.unlink()
    return saved_bytes


if __name__ == "__main__":
    print(f"{trim(Path(sys.argv[1])) / 1e6:.1f} MB less")
