"""Whether this Python is new enough. It has to say so to an old one: this module is readable by Python 3.8."""

from __future__ import annotations

from typing import Sequence  # noqa: UP035 (its place in Python 3.8)

from service.doctor.findings import Finding, ok, problem

LEAST = (3, 11)


def check_python(version: Sequence[object]) -> Finding:
    """Of `sys.version_info`."""
    told = ".".join(str(part) for part in version[:3])
    least = ".".join(str(part) for part in LEAST)
    if tuple(version[:2]) >= LEAST:
        return ok("python", told)
    return problem(
        "python",
        "Python " + told + " runs this",
        "the service needs Python " + least + " or newer: it uses what older ones do not have",
        "install a newer one, then remove .venv and run `make serve PYTHON=/path/to/python" + least + "`",
    )
