"""The journal of a batch: whole after any kill, of one file and one process, in order at the end."""

import json
from pathlib import Path

import pytest

from service.client.batches.journal import Journal
from service.client.batches.lines import RequestFile, read_requests
from service.client.exit_codes import CommandError, UsageError


@pytest.fixture
def requests(tmp_path: Path) -> RequestFile:
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(f'{{"question": "{number}"}}\n' for number in range(3)))
    return read_requests(file)


@pytest.mark.slow
def test_results_are_put_in_order(requests: RequestFile, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Journal(requests, out) as journal:
        keys = [journal.key(number) for number in (1, 2, 3)]
        for number in (3, 1):
            journal.add(number, {"answer": f"答{number}"})
    with Journal(requests, out) as journal:
        assert journal.done == {1, 3}
        assert [journal.key(number) for number in (1, 2, 3)] == keys, "the same keys, however often it begins"
        journal.add(2, {"answer": "two"})
        journal.finish()
    assert [json.loads(line)["answer"] for line in out.read_text().splitlines()] == ["答1", "two", "答3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "requests.jsonl"]


def test_a_line_that_was_cut_off_is_none(requests: RequestFile, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Journal(requests, out) as journal:
        journal.add(1, {"answer": "one"})
        journal.add(2, {"answer": "two"})
    path = tmp_path / "out.jsonl.journal"
    whole = path.read_bytes()
    begins = whole.index(b'{"line": 2')
    for end in range(begins, len(whole)):
        path.write_bytes(whole[:end])
        with Journal(requests, out) as journal:
            assert journal.done == {1}
    with Journal(requests, out) as journal:
        journal.add(2, {"answer": "again"})
        journal.add(3, {"answer": "three"})
        journal.finish()
    assert [json.loads(line)["answer"] for line in out.read_text().splitlines()] == ["one", "again", "three"]


def test_a_head_that_was_cut_off_begins_anew(requests: RequestFile, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl.journal").write_bytes(b'{"version": 1, "ru')
    with Journal(requests, tmp_path / "out.jsonl") as journal:
        assert journal.done == set() and len(journal.key(1)) > 20


def test_a_kill_before_the_journal_is_gone_ends_the_same(requests: RequestFile, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Journal(requests, out) as journal:
        for number in (1, 2, 3):
            journal.add(number, {"answer": number})
    out.write_text("what was put in order before the kill")
    with Journal(requests, out) as journal:
        assert journal.done == {1, 2, 3}
        journal.finish()
    assert len(out.read_text().splitlines()) == 3 and not (tmp_path / "out.jsonl.journal").exists()


def test_of_another_file_it_is_refused(requests: RequestFile, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Journal(requests, out) as journal:
        first = journal.key(1)
    requests.path.write_text('{"question": "another"}\n')
    with Journal(read_requests(requests.path), out) as journal:
        assert journal.key(1) != first, "nothing was done: it begins anew"
        journal.add(1, {"answer": "one"})
    requests.path.write_text('{"question": "a third"}\n')
    with pytest.raises(UsageError, match="is of another file than"):
        Journal(read_requests(requests.path), out)


def test_results_are_not_written_over(requests: RequestFile, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("results")
    with pytest.raises(UsageError, match="is there already"):
        Journal(requests, tmp_path / "out.jsonl")


def test_two_processes_cannot_have_it(requests: RequestFile, tmp_path: Path) -> None:
    with Journal(requests, tmp_path / "out.jsonl"), pytest.raises(CommandError, match="another process works on it"):
        Journal(requests, tmp_path / "out.jsonl")


def test_where_it_cannot_be_written_is_named(requests: RequestFile, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        Journal(requests, tmp_path / "none" / "out.jsonl")
