"""Files of labelled texts: what a line may hold, which one is refused, and how harmless lines become long texts."""

import json
from pathlib import Path

import pytest

from safety.measure.labelled_file import JOINED_TEXTS, LabelledText, MalformedLine, joined, read_labelled_file

GOOD = {"lang": "en", "truth": "safe", "category": "cats", "text": "a cat"}


def written(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_lines_with_and_without_a_kind(tmp_path: Path) -> None:
    picture = {**GOOD, "truth": True, "kind": "picture", "source": "somewhere"}
    first, second = read_labelled_file(written(tmp_path / "set", GOOD, "", picture))
    assert first == LabelledText("en", "safe", "cats", "a cat", "request") and not first.is_unsafe
    assert second.kind == "picture" and second.is_unsafe


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "truncated"),
        ({**GOOD, "truth": "perhaps"}, "truth"),
        ({**GOOD, "text": ""}, "text"),
        ({**GOOD, "kind": "sound"}, "kind"),
        ({name: GOOD[name] for name in ("lang", "truth", "text")}, "category"),
        ("[1]", "object"),
    ],
)
def test_a_wrong_line_is_refused_by_its_number(tmp_path: Path, line: object, reason: str) -> None:
    with pytest.raises(MalformedLine, match=rf"set, line 3: .*{reason}.*; a line is a JSON object with lang, truth"):
        read_labelled_file(written(tmp_path / "set", GOOD, GOOD, line, GOOD))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedLine, match="no line in it"):
        read_labelled_file(written(tmp_path / "set", "", " "))


def test_harmless_lines_are_joined_by_language_and_kind_and_seed() -> None:
    texts = [LabelledText("en", "safe", "a", f"cat {number}") for number in range(30)]
    texts += [LabelledText("zh", "safe", "a", "一只猫", "picture"), LabelledText("en", "unsafe", "b", "a bomb")]
    long = list(joined(texts, 100, seed=1))
    assert len(long) == 2 * JOINED_TEXTS and {len(one.text) for one in long} == {100}
    assert {(one.lang, one.kind) for one in long} == {("en", "request"), ("zh", "picture")}
    assert not any("bomb" in one.text or one.is_unsafe for one in long)
    assert long == list(joined(texts, 100, seed=1)) != list(joined(texts, 100, seed=2))
    assert len({one.text for one in long if one.lang == "en"}) > JOINED_TEXTS / 2
