"""What a check found: all is well, a thing worth knowing, or a problem with its cause and its fix.

Readable by Python 3.8, as python_version.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the report, of which a problem has three.

    Args:
        check: what was looked at, in a word.
        level: "ok", "note" or "problem".
    """

    check: str
    level: str
    found: str
    cause: str = ""
    fix: str = ""


@dataclass(frozen=True)
class SettingSource:
    """A setting, its value as it would be written, and where that comes from; secrets are not told."""

    name: str
    value: str
    source: str  # "default", "environment" or "env file"


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", found)


def note(check: str, found: str) -> Finding:
    """Worth knowing, and no reason not to start."""
    return Finding(check, "note", found)


def problem(check: str, found: str, cause: str, fix: str) -> Finding:
    """What has to be mended first, if the service is to do what it is set to."""
    return Finding(check, "problem", found, cause, fix)
