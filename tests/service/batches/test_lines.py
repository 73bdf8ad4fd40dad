"""Lines of a batch: which are requests, what is said of those that are none, and how results look."""

import json
from typing import Any

import pytest

from service.batches.lines import (
    LineAnswer,
    LineError,
    check_lines,
    decode_errors,
    encode_errors,
    read_request,
    result_line,
    unanswered_line,
)


def line(custom_id: object = "a", **fields: Any) -> bytes:
    told = {"custom_id": custom_id, "method": "POST", "url": "/chat", "body": {"question": "x"}, **fields}
    return json.dumps(told).encode() + b"\n"


def test_requests_are_counted_and_empty_lines_are_none() -> None:
    assert check_lines([line("a"), b"\n", b"  \r\n", line("b")], "/chat", 2) == (2, [])


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[]", "invalid_json_line", None),
        (b'{"custom_id": "\xff"}', "invalid_json_line", None),
        (b"[" * 100_000, "invalid_json_line", None),
        (line(7), "invalid_json_line", None),
        (line(""), "invalid_custom_id", "custom_id"),
        (line("x" * 257), "invalid_custom_id", "custom_id"),
        (line("a"), "duplicate_custom_id", "custom_id"),
        (line("b", method="GET"), "invalid_method", "method"),
        (line("b", url="/paint"), "mismatched_url", "url"),
        (line("b", body=[]), "invalid_body", "body"),
        (line("b", body="x"), "invalid_body", "body"),
        (line("b", body={"stream": True}), "invalid_body", "body.stream"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(wrong: bytes, code: str, param: str | None) -> None:
    _, [error] = check_lines([line("a"), wrong], "/chat", 9)
    assert (error.code, error.param, error.line) == (code, param, 2) and error.message


def test_a_file_as_a_whole_may_be_wrong() -> None:
    assert [one.code for one in check_lines([b"\n"], "/chat", 9).errors] == ["empty_file"]
    too_many = check_lines([line(str(number)) for number in range(3)], "/chat", 2)
    assert [one.code for one in too_many.errors] == ["too_many_requests"] and "3" in too_many.errors[0].message
    assert len(check_lines([b"x\n"] * 1000, "/chat", 10_000).errors) == 20


def test_a_body_is_sent_as_it_was_written() -> None:
    body = b'{"question": "\\u4f60", "seed": 1.0}'
    raw = b'{"custom_id": "a", "method": "POST", "url": "/chat", "body": ' + body + b"}"
    assert bytes(read_request(raw).body) == body


def test_results_hold_the_answer_whatever_it_is() -> None:
    told = json.loads(result_line("batch_req_1", "a", LineAnswer(400, "req-1", b'{"error": {"code": "x"}}', "x")))
    response = {"status_code": 400, "request_id": "req-1", "body": {"error": {"code": "x"}}}
    assert told == {"id": "batch_req_1", "custom_id": "a", "response": response, "error": None}
    told = json.loads(unanswered_line("batch_req_1", "a", "batch_expired", "late"))
    assert told["response"] is None and told["error"] == {"code": "batch_expired", "message": "late"}
    assert result_line("1", "a\nb", LineAnswer(200, "r", b"{}")).count(b"\n") == 1


def test_errors_are_kept_as_they_are() -> None:
    errors = [LineError("a", "b", "c", 3), LineError("d", "e")]
    assert decode_errors(encode_errors(errors)) == errors and decode_errors(b"") == []
