"""Calls that wait, end and are given up."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from models.evaluation.errors import EvaluationError
from models.evaluation.http_calls import CallFailed, Outcome, Retries, open_client, post, retry_after_s
from tests.models.evaluation.completions import Endpoint

QUICK = Retries(attempts=3, first_wait_s=0.001)


@pytest.mark.slow
async def test_waits_and_ends_of_calls(serve: Callable[[FastAPI], str]) -> None:
    endpoint = Endpoint(*[Response("down", 503)] * 3, JSONResponse([1]))
    async with open_client(f"{serve(endpoint.app)}/v1") as client:
        with pytest.raises(CallFailed, match="failed 3 times, last: 503 down") as failed:
            await post(client, "chat/completions", {}, QUICK)
        assert not failed.value.is_fatal
        with pytest.raises(CallFailed, match="without a JSON object"):
            await post(client, "chat/completions", {}, QUICK)
    async with open_client("http://127.0.0.1:9") as client:
        with pytest.raises(CallFailed, match="ConnectError") as failed:
            await post(client, "chat", {}, QUICK)
        assert failed.value.is_fatal
    with pytest.raises(EvaluationError, match="no address of a service"):
        open_client("localhost")


def test_calls_that_all_fail_are_given_up() -> None:
    refused = CallFailed("400", 400)
    outcome = Outcome(hopeless_after=3)
    outcome.fail("a", refused)
    outcome.fail("b", refused)
    with pytest.raises(CallFailed, match="the first 3 calls all failed, the last one: c: 400"):
        outcome.fail("c", refused)
    outcome = Outcome(hopeless_after=1)
    outcome.succeed()
    outcome.fail("d", refused)
    assert outcome.failures == ["d: 400"]


def test_retry_after_is_seconds_or_a_date() -> None:
    def response(value: str) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": value})

    assert retry_after_s(response("2.5")) == 2.5
    assert retry_after_s(httpx.Response(429)) is None
    assert retry_after_s(response("soon")) is None
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after_s(response(date)) or 0) <= 60
    assert retry_after_s(response("Mon, 01 Jan 2024 00:00:00 GMT")) == 0
    assert Retries().wait_s(0, response("100000")) == 600
    assert 0.5 <= Retries().wait_s(0, None) <= 1
    assert 30 <= Retries().wait_s(50, None) <= 60
