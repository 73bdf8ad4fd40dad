"""Lines sent a few at once: again while the service is away or full, to an answer that another try would not change."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import IO, Any

import httpx

from service.client.batches.journal import Journal
from service.client.batches.lines import Line, RequestFile, body_of
from service.client.connection import answer_in, unreachable
from service.client.exit_codes import CommandError, ExitCode

_MAX_WAIT_S = 10.0
_MAX_EXECUTIONS = 3  # of a line whose job fails
_AGAIN = (408, 429, 502, 503)
_AGAIN_CODES = ("idempotency_key_in_use", "conversation_busy")

Result = dict[str, Any]


class Sender:
    """Sends a batch's lines and keeps what they are answered.

    Args:
        retry_s: without any line's answer for this long, the batch ends with what keeps it from going on.
        on_result: told each result before it is kept, and may change it.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        requests: RequestFile,
        journal: Journal,
        retry_s: float,
        on_result: Callable[[Line, Result], None],
    ) -> None:
        self._client = client
        self._requests = requests
        self._journal = journal
        self._retry_s = retry_s
        self._on_result = on_result
        self._answered_s = 0.0

    async def send_all(self, num_at_once: int) -> None:
        """Raises CommandError: of what would befall every line."""
        done = self._journal.done
        waiting = iter([line for line in self._requests.lines if line.number not in done])
        self._answered_s = asyncio.get_running_loop().time()
        with self._requests.path.open("rb") as file:

            async def send_next() -> None:
                for line in waiting:
                    await self._send(line, file)

            await _all_or_first_error([send_next for _ in range(num_at_once)])

    async def _send(self, line: Line, file: IO[bytes]) -> None:
        num_failures, wait_s = 0, 0.25
        while True:
            pause_s = 0.0
            try:
                response = await self._ask(line, file)
                num_failures += response.status_code >= 500
                if response.status_code < 500 or num_failures == _MAX_EXECUTIONS:
                    self._keep(line, response)
                    return
            except CommandError as hindrance:
                unanswered_s = asyncio.get_running_loop().time() - self._answered_s
                if not _is_passing(hindrance) or unanswered_s > self._retry_s:
                    raise
                pause_s = hindrance.retry_after_s
            wait_s = min(_MAX_WAIT_S, wait_s * 2)
            await asyncio.sleep(pause_s or wait_s * random.uniform(0.5, 1.0))

    async def _ask(self, line: Line, file: IO[bytes]) -> httpx.Response:
        """An answer, or an error that is the line's own. Raises CommandError for any other."""
        headers = {"idempotency-key": self._journal.key(line.number)}
        body = body_of(file, line, self._requests.path.parent)
        try:
            response = await self._client.post(line.url, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise unreachable(self._client.base_url, line.url, error) from None
        try:
            answer_in(response, "data" if line.url == "/v1/images/generations" else "id")
        except CommandError as error:
            if not error.code or _is_passing(error) or error.exit_code == ExitCode.NOT_ALLOWED:
                raise
        return response

    def _keep(self, line: Line, response: httpx.Response) -> None:
        self._answered_s = asyncio.get_running_loop().time()
        answered = {
            "status_code": response.status_code,
            "request_id": response.headers.get("x-request-id", ""),
            "body": response.json(),
        }
        key = self._journal.key(line.number)
        result = {"id": key, "custom_id": line.custom_id, "response": answered, "error": None}
        self._on_result(line, result)
        self._journal.add(line.number, result)


def _is_passing(error: CommandError) -> bool:
    """Whether the same request may get its answer later. A 5xx without a code is of what stands before the service."""
    is_away = error.exit_code == ExitCode.UNREACHABLE or (not error.code and error.status >= 500)
    return is_away or error.status in _AGAIN or error.code in _AGAIN_CODES


async def _all_or_first_error(work: list[Callable[[], Awaitable[None]]]) -> None:
    """Run all; the first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(one()) for one in work]
    try:
        for finished in asyncio.as_completed(tasks):
            await finished
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
