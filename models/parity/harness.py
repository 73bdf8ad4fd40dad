"""`python -m models.parity DIR`: this code against the reference's numbers, one line a quantity.

Exit status 1 if a quantity is off, a file is missing or a file is unknown; a folder may hold a `files.json`, a list of
its files, to say that others were left out on purpose.
"""

import argparse
import contextlib
import json
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch

from models.parity.fixtures import Fixtures
from models.parity.report import Report

MODULES = ("text", "language", "vision", "checkpoints", "chat", "paint", "finetune")
NOT_NUMBERS = ("README.md", "files.json")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Check(NamedTuple):
    name: str
    leading_file: str  # without it the check cannot run
    files: tuple[str, ...]  # names or patterns of all that it reads
    run: Callable[[Fixtures, Report], None]


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    # Tensor cores round float32 products to 10 bits, which the limits do not allow for.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False

    started = time.perf_counter()
    report = Report()
    fixtures = Fixtures(options.folder, torch.device(options.device), DTYPES[options.dtype])
    checks = all_checks()
    compare_file_list(fixtures, checks, options.skip, report)
    for check in checks:
        if check.leading_file not in options.skip and fixtures.has(check.leading_file):
            run_check(check, fixtures, report)
    duration_s = time.perf_counter() - started
    setting = f"{options.folder} on {options.device} in {options.dtype}"
    print(f"{report.lines} quantities, {report.failures} failed: {setting}, {duration_s:.1f} s")
    return 1 if report.failures else 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.parity", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with the reference's numbers")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of the models (default: float32)")
    parser.add_argument("--skip", nargs="+", default=[], metavar="FILE", help="files whose checks to leave out")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    return options


def all_checks() -> list[Check]:
    """Every check of every part, in the order in which they build on each other."""
    checks = []
    for part in MODULES:
        module = import_module(f"models.parity.{part}")
        checks += [Check(f"{part} {name}", name, module.COVERS[name], run) for name, run in module.CHECKS.items()]
    return checks


def compare_file_list(fixtures: Fixtures, checks: Iterable[Check], skipped: list[str], report: Report) -> None:
    """Fail each file that is missing without being left out, and each that no check reads."""
    present = {path.relative_to(fixtures.folder).as_posix() for path in fixtures.folder.rglob("*") if path.is_file()}
    try:
        listed = listed_files(fixtures)
    except ValueError as error:
        report.line("files.json", str(error), "names", False)
        listed = None
    expected = dict.fromkeys([name for check in checks for name in check.files] + referenced_images(fixtures))
    for name in (*expected, *sorted((listed or set()) - set(expected))):
        if name in skipped or matches_any(name, NOT_NUMBERS) or any(fnmatchcase(file, name) for file in present):
            continue
        if listed is not None and not any(fnmatchcase(file, name) for file in listed):
            report.note(name, "left out")
        else:
            report.line(name, "missing", "present", False)
    for name in sorted(present):
        if name in skipped:
            report.note(name, "skipped")
        elif not matches_any(name, (*expected, *NOT_NUMBERS)):
            report.line(name, "unknown", "checked", False)


def referenced_images(fixtures: Fixtures) -> list[str]:
    """The pictures that the folder's cases name by number, those of fine-tuning included."""

    def numbers(node: object) -> Iterator[int]:
        if isinstance(node, dict):
            if isinstance(node.get("image"), int):
                yield node["image"]
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from numbers(child)

    found: set[int] = set()
    for path in fixtures.folder.glob("*.json"):
        # A file that is no JSON fails in the check that it belongs to.
        with contextlib.suppress(ValueError):
            found.update(numbers(fixtures.json(path.name)))
    return [f"images/image{number}.png" for number in sorted(found)]


def listed_files(fixtures: Fixtures) -> set[str] | None:
    """The names in the folder's `files.json`; None if it has none.

    Raises:
        ValueError: it holds something other than a list of names.
    """
    if not fixtures.has("files.json"):
        return None
    names = fixtures.json("files.json")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"files.json has to be a list of file names, got {json.dumps(names):.80}")
    return set(names)


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def run_check(check: Check, fixtures: Fixtures, report: Report) -> None:
    """A check that breaks off is a failure of its own, and the others still run."""
    before = report.lines
    try:
        check.run(fixtures, report)
    except Exception as error:
        traceback.print_exc()
        message = " ".join(str(error).split())
        report.line(check.name, f"{type(error).__name__}: {message:.120}", "no error", False)
    else:
        if report.lines == before:
            report.note(check.name, "nothing to check")
