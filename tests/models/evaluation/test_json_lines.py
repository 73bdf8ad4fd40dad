from pathlib import Path

from models.evaluation.json_lines import Journal
from tests.models.evaluation.lines import read_lines


def test_a_last_line_that_only_lacks_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"question_id": 1}\n{"question_id": 2}')
    journal = Journal(path, {"question_id": int})
    journal.append({"question_id": 3})
    assert [line["question_id"] for line in read_lines(path)] == [1, 2, 3]
