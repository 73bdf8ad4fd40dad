"""What belongs to one request and not to the ones beside it."""

import asyncio

from service.core.current_request import (
    CurrentRequest,
    begin_request,
    current_request_id,
    note_job,
    note_queued,
    note_steps,
    note_tokens,
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


async def test_outside_of_requests_there_is_none() -> None:
    async def nobody() -> str:
        note_job("j")
        note_queued()
        note_tokens(1)
        note_steps(1)
        return current_request_id()

    assert await asyncio.create_task(nobody()) == ""
