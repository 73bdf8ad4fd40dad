"""Files of one JSON object a line: those that are read, and those that a run which may be stopped adds to."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.evaluation.errors import EvaluationError

Line = dict[str, Any]


def read_lines(path: Path, fields: Mapping[str, type]) -> list[Line]:
    """The objects of a file, each with the fields asked for; its place in the list is its line but for empty lines.

    Raises:
        EvaluationError: a line that is no such object, named by its number; or no line at all.
    """
    lines = []
    for number, text in enumerate(_text(path).split("\n"), 1):  # not splitlines: text in JSON may hold U+2028
        if text.strip():
            lines.append(_parsed(text, fields, f"{path}, line {number}"))
    if not lines:
        raise EvaluationError(f"{path}: holds no lines")
    return lines


def by_id(path: Path, fields: Mapping[str, type], key: str) -> dict[Any, Line]:
    """The objects of a file by one of their fields. Raises EvaluationError, also for one value on two lines."""
    found: dict[Any, Line] = {}
    for line in read_lines(path, fields):
        if line[key] in found:
            raise EvaluationError(f"{path}: {key} {line[key]!r} stands on two lines, once is allowed")
        found[line[key]] = line
    return found


def read_object(path: Path) -> Line:
    """The one JSON object that a file holds. Raises EvaluationError."""
    return _parsed(_text(path), {}, str(path))


class Journal:
    """A file that grows by whole lines. What a killed run left of a last line is cut off when it is opened again.

    Args:
        fields: what every line must have.

    Raises:
        EvaluationError: a line before the last one is broken.
    """

    def __init__(self, path: Path, fields: Mapping[str, type]) -> None:
        self.path = path
        self.lines: list[Line] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        data = path.read_bytes()
        whole, torn = data[: data.rfind(b"\n") + 1], data[data.rfind(b"\n") + 1 :]
        for number, text in enumerate(whole.decode("utf-8").split("\n"), 1):
            if text.strip():
                self.lines.append(_parsed(text, fields, f"{path}, line {number}"))
        if torn:
            self._repair(len(whole), torn, fields)

    def append(self, line: Line) -> None:
        """Adds a line and sees it to the disk: answers cost more than the wait."""
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8")
        with self.path.open("ab", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
        self.lines.append(line)

    def sort(self, keys: Sequence[Any], key: str) -> None:
        """Brings the lines into the order of `keys`: lines were added as they came."""
        place = {value: index for index, value in enumerate(keys)}
        self.lines.sort(key=lambda line: place.get(line[key], len(place)))
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines)
        write_whole(self.path, text.encode("utf-8"))

    def _repair(self, whole_bytes: int, torn: bytes, fields: Mapping[str, type]) -> None:
        """Keeps a last line that lacks its line end alone; anything less of a line goes."""
        os.truncate(self.path, whole_bytes)
        try:
            self.append(_parsed(torn.decode("utf-8"), fields, str(self.path)))
        except (EvaluationError, UnicodeDecodeError):
            return


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file, and the folder that it lies in, so that it is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None


def _parsed(text: str, fields: Mapping[str, type], where: str) -> Line:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise EvaluationError(f"{where}: is not JSON: {error}") from None
    if not isinstance(line, dict):
        raise EvaluationError(f"{where}: a JSON object is expected, got {type(line).__name__}")
    for name, kind in fields.items():
        value = line.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            got = "nothing" if name not in line else repr(value)[:80]
            raise EvaluationError(f"{where}: {name} must be {_KINDS[kind]}, got {got}")
    return line


_KINDS = {int: "an integer", str: "text", list: "a list", dict: "an object", float: "a number"}
