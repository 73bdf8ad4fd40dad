from pathlib import Path

from models.evaluation.json_lines import Journal, write_whole
from tests.models.evaluation.lines import read_lines


def test_a_last_line_that_only_lacks_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"question_id": 1}\n{"question_id": 2}')
    journal = Journal(path, {"question_id": int})
    journal.append({"question_id": 3})
    assert [line["question_id"] for line in read_lines(path)] == [1, 2, 3]


def test_a_whole_file_makes_its_folder_and_replaces_what_was_there(tmp_path: Path) -> None:
    """Results of hours are not lost for want of a folder."""
    path = tmp_path / "deep" / "er" / "report.json"
    for data in (b"first, and longer", b"second"):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]
