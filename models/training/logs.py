"""What a run tells while it goes: CSV files, TensorBoard, lines with the time left."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

STEPS_FILE = "steps.csv"
VALIDATION_FILE = "validation.csv"
TENSORBOARD_FOLDER = "tensorboard"


class RunLog:
    """Writes `steps.csv`, `validation.csv` and `tensorboard/` of a run's folder; on resuming, what came after goes.

    Args:
        step: steps that the run has behind it; rows beyond are of a run that died before it saved them.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        for name in (STEPS_FILE, VALIDATION_FILE):
            _cut(folder / name, step)
        self._tensorboard = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tensorboard.close()

    def steps(self, step: int, values: Mapping[str, float]) -> None:
        """Values of one step of training."""
        self._write(STEPS_FILE, "training", step, values)

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Measures on held-out examples after `step` steps."""
        self._write(VALIDATION_FILE, "validation", step, values)
        logger.info("step %d, validation: %s", step, ", ".join(f"{name} {value:.4g}" for name, value in values.items()))

    def _write(self, name: str, section: str, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._tensorboard.add_scalar(f"{section}/{key}", value, step)
        _append(self._folder / name, {"step": step, **{key: f"{value:.9g}" for key, value in values.items()}})


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of one of a run's CSV files; none where there is no file."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def _append(file: Path, row: Mapping[str, Any]) -> None:
    """Add a row; where its columns are not those of the file, the file is written anew with both."""
    rows = read_rows(file) if _columns(file) != list(row) else []
    columns = list(dict.fromkeys([*_columns(file), *row]))
    if rows or not file.is_file():
        _rewrite(file, columns, [*rows, row])
        return
    with file.open("a", encoding="utf-8", newline="") as opened:
        csv.DictWriter(opened, columns).writerow(row)


def _columns(file: Path) -> list[str]:
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as opened:
        return next(csv.reader(opened), [])


def _cut(file: Path, step: int) -> None:
    """Take out rows of later steps, and a last one that was not written to its end."""
    rows = read_rows(file)
    kept = [row for row in rows if None not in row.values() and int(row["step"]) <= step]
    if len(kept) < len(rows):
        _rewrite(file, _columns(file), kept)


def _rewrite(file: Path, columns: list[str], rows: Sequence[Mapping[str, Any]]) -> None:
    partial = file.with_name(file.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, columns)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(file)
