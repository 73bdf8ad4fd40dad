"""What belongs to one request and not to the ones beside it."""

import asyncio

from service.core.current_request import (
    CurrentRequest,
    begin_request,
    current_key_id,
    current_request_id,
    note_job,
    note_key,
    note_queued,
    note_steps,
    note_tokens,
    work_for_key,
)


async def test_what_a_request_s_tasks_note_is_its_own() -> None:
    async def work(job_id: str) -> None:
        note_job(job_id)
        await asyncio.sleep(0.001)
        note_queued()
        note_tokens(len(job_id))
        note_steps(7)

    async def answer(number: int) -> tuple[CurrentRequest, str]:
        request = begin_request(f"r{number}")
        await asyncio.create_task(work("j" * number))
        return request, current_request_id()

    answers = await asyncio.gather(*(asyncio.create_task(answer(number)) for number in range(1, 4)))
    noted = [CurrentRequest(f"r{number}", "j" * number, True, number, 7) for number in range(1, 4)]
    assert answers == [(request, request.request_id) for request in noted]


async def test_a_key_is_its_tasks_own_and_its_requests() -> None:
    async def answer(key_id: str) -> tuple[str | None, str]:
        request = begin_request("r")
        note_key(key_id)
        await asyncio.sleep(0.001)

        async def finalize() -> str:
            work_for_key("another's")
            return current_key_id()

        assert await asyncio.create_task(finalize()) == "another's"
        return request.key_id, current_key_id()

    assert await asyncio.gather(*(asyncio.create_task(answer(one)) for one in "ab")) == [("a", "a"), ("b", "b")]
    assert current_key_id() == ""


async def test_outside_of_requests_there_is_none() -> None:
    async def nobody() -> str:
        note_job("j")
        note_queued()
        note_tokens(1)
        note_steps(1)
        return current_request_id()

    assert await asyncio.create_task(nobody()) == ""
