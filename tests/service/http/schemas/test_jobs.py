"""A job tells its state, and its answer by the answer's own kind."""

import msgspec

from service.http.schemas.errors import ErrorDetail
from service.http.schemas.jobs import JobResponse
from service.jobs.answers import PaintResponse, PaintUsage


def test_an_answer_is_read_back_as_what_it_was() -> None:
    usage = PaintUsage(input_tokens=1, output_tokens=0, total_tokens=1)
    answer = PaintResponse(id="j", created=1, model="m", data=[], size="8x8", output_format="png", usage=usage)
    job = JobResponse(id="j", kind="paint", state="done", created=1, answer=answer)
    told = msgspec.json.decode(msgspec.json.encode(job))
    assert told["object"] == "job" and told["answer"]["object"] == "paint.answer" and told["error"] is None
    assert msgspec.convert(told, JobResponse) == job


def test_a_job_without_an_answer_says_so() -> None:
    error = ErrorDetail(message="no", type="server_error", param=None, code="job_failed")
    told = msgspec.json.decode(
        msgspec.json.encode(JobResponse(id="j", kind="chat", state="failed", created=1, error=error))
    )
    assert told["answer"] is None and told["error"]["code"] == "job_failed" and "moderation" not in told["error"]
