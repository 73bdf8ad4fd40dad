"""Batches in OpenAI's shape: what is read, and what is told when."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from service.batches.batch_store import Batch, BatchRequest, Status
from service.batches.lines import LineError
from service.http.schemas.openai.batches import BatchCreateRequest, BatchObject

ASKED: dict[str, Any] = {"input_file_id": "file-1", "endpoint": "/chat", "completion_window": "24h"}


def batch(status: Status, num_completed: int = 0, num_failed: int = 0, **times: int) -> Batch:
    request = BatchRequest("batch_1", "t", "", "/chat", "file-1", "file-out", "file-err", {"a": "b"})
    errors = [LineError("invalid_json_line", "x", None, 3)] if status == "failed" else []
    return Batch(request, status, 5, num_completed, num_failed, errors, 100, 200, times)


def test_files_of_results_are_told_at_the_end_and_where_there_are_any() -> None:
    running = BatchObject.of(batch("in_progress", 2, 1, in_progress=100))
    assert (running.output_file_id, running.error_file_id, running.in_progress_at) == (None, None, 100)
    assert (running.request_counts.total, running.request_counts.completed, running.request_counts.failed) == (5, 2, 1)
    done = BatchObject.of(batch("completed", 5, 0, completed=150))
    assert (done.output_file_id, done.error_file_id, done.completed_at) == ("file-out", None, 150)
    cancelled = BatchObject.of(batch("cancelled", 0, 5, cancelling=120, cancelled=130))
    assert (cancelled.output_file_id, cancelled.error_file_id) == (None, "file-err")
    assert (cancelled.cancelling_at, cancelled.cancelled_at, cancelled.metadata) == (120, 130, {"a": "b"})


def test_errors_name_their_lines() -> None:
    failed = BatchObject.of(batch("failed", failed=1))
    assert failed.errors is not None and failed.errors.data[0].line == 3 and failed.errors.object == "list"
    assert BatchObject.of(batch("completed")).errors is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "/v1/embeddings"},
        {"completion_window": "1h"},
        {"input_file_id": ""},
        {"metadata": {str(number): "x" for number in range(17)}},
        {"metadata": {"x" * 65: "x"}},
        {"metadata": {"x": "x" * 513}},
        {"metadata": {"x": 7}},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        BatchCreateRequest.model_validate_json(json.dumps({**ASKED, **wrong}))


def test_what_is_not_known_is_told_and_null_is_absent() -> None:
    asked = BatchCreateRequest.model_validate_json(
        json.dumps({**ASKED, "metadata": None, "output_expires_after": {"seconds": 3600}})
    )
    assert asked.metadata is None and asked.ignored() == ["output_expires_after"]
