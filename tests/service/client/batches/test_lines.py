"""The lines of a file of requests: both forms, pictures by name, and the first lines at fault."""

import base64
import json
from pathlib import Path

import pytest

from service.client.batches.lines import body_of, read_requests
from service.client.exit_codes import CommandError, UsageError


def written(folder: Path, *lines: object) -> Path:
    file = folder / "requests.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def test_both_forms_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"pixels")
    file = written(
        tmp_path,
        {"question": "什么？", "image_file": "a.png"},
        "",
        {"custom_id": "b", "prompt": "红苹果", "priority": "interactive"},
        {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "x", "messages": []}},
    )
    requests = read_requests(file)
    assert [(line.number, line.custom_id, line.url) for line in requests.lines] == [
        (1, "1", "/chat"),
        (3, "b", "/paint"),
        (4, "c", "/v1/chat/completions"),
    ]
    with file.open("rb") as opened:
        bodies = [body_of(opened, line, tmp_path) for line in requests.lines]
    image = base64.b64encode(b"pixels").decode()
    assert bodies == [
        {"question": "什么？", "image": image, "priority": "batch"},
        {"prompt": "红苹果", "priority": "interactive"},
        {"model": "x", "messages": []},
    ]
    file.write_bytes(file.read_bytes() + b"\n")
    assert read_requests(file).sha256 != requests.sha256


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: is no JSON"),
        ("[1]", "line 1: is no object"),
        ({"x": 1}, "needs a url and a body, or the body alone of a question or of a prompt"),
        ({"question": "a", "prompt": "b"}, "needs a url"),
        ({"url": "/jobs", "body": {}}, "url '/jobs' is none of /chat, /paint"),
        ({"url": "/chat"}, "has a url and no body"),
        ({"question": "a", "stream": True}, "asks for a stream"),
        ({"question": "a", "custom_id": 7}, "custom_id must be text, got 7"),
        ({"question": "a", "image_file": 7}, "image_file must be a file's name, got 7"),
    ],
)
def test_a_line_at_fault_is_named(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        read_requests(written(tmp_path, line))
    assert "\n" not in str(raised.value)


def test_the_first_faults_are_named(tmp_path: Path) -> None:
    same = {"question": "a", "custom_id": "x"}
    with pytest.raises(UsageError, match="line 2: custom_id 'x' is there twice; line 3: .*; line 4: .*; 1 more"):
        read_requests(written(tmp_path, same, same, "{", "{", "{"))
    with pytest.raises(UsageError, match="has no lines"):
        read_requests(written(tmp_path, ""))
    with pytest.raises(CommandError, match="No such file"):
        read_requests(tmp_path / "none.jsonl")


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, {"question": "a", "image_file": "none.png"})
    with file.open("rb") as opened, pytest.raises(CommandError, match="line 1: .*none.png: No such file"):
        body_of(opened, read_requests(file).lines[0], tmp_path)
