"""What the page of troubles quotes is what the service says."""

import re
from pathlib import Path

import pytest

from service.core.errors import codes_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations/troubleshooting.md").read_text("utf-8")
NUM_WORDS = 3  # in a row, which a quoted message has in common with the source


def rows(section: str) -> list[list[str]]:
    start = PAGE.index(f"## {section}")
    part = PAGE[start : PAGE.find("\n## ", start) if "\n## " in PAGE[start:] else None]
    return [line.strip("| ").split(" | ") for line in part.split("\n") if line.startswith("| ")][1:]


def test_every_row_has_a_cause_and_a_remedy() -> None:
    sections = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    found = [row for section in sections for row in rows(section)]
    assert len(found) > 50
    assert [row for row in found if len(row) != 3 or not all(map(str.strip, row))] == []


def test_codes_stand_with_their_status() -> None:
    told = [
        (int(status), code)
        for row in rows("It runs, and requests fail")
        for status, codes in re.findall(r"\b(\d{3}) ((?:`\w+`(?:, )?)+)", row[0])
        for code in re.findall(r"`([a-z_]+)`", codes)
    ]
    assert len(told) > 20
    engines_own = {(500, "out_of_memory")}
    wrong = [one for one in told if one not in engines_own and one[1] not in codes_of(one[0])]
    assert wrong == []


@pytest.mark.slow
def test_messages_at_the_start_are_in_the_source() -> None:
    paths = [path for room in ("service", "models") for path in (ROOT / room).rglob("*.py")]
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text("utf-8") for path in paths))
    source = " ".join(re.sub(r"{[^{}]*}|f?\"", " ", source).split())
    messages = [message for row in rows("It does not start") for message in re.findall(r"`([^`]{15,})`", row[0])]
    assert len(messages) > 15
    assert [message for message in messages if not _is_said(message, source)] == []


def _is_said(message: str, source: str) -> bool:
    pieces = (re.sub(r"'\w+'|=[\d.]+", " ", piece).split() for piece in re.split("…", message))
    runs = [words[i : i + NUM_WORDS] for words in pieces for i in range(max(1, len(words) - NUM_WORDS + 1))]
    return any(" ".join(run) in source for run in runs if len(run) == NUM_WORDS)
