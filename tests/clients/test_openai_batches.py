"""Files and batches by OpenAI's own Python package, asked of `viscpm serve` with the bundled checkpoint and two API
processes, which are killed in the middle of a batch.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.tree import Tree, wait_for

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("serve"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(serve: Tree) -> "Iterator[OpenAI]":
    from openai import OpenAI

    with OpenAI(base_url=f"{serve.url}/v1", api_key="sk-any", http_client=httpx.Client(trust_env=False)) as connected:
        yield connected


def begin(client: "OpenAI", url: Any, bodies: list[dict[str, Any]]) -> "Batch":
    lines = [
        {"custom_id": f"line{number}", "method": "POST", "url": url, "body": body} for number, body in enumerate(bodies)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    kept = client.files.create(file=("requests.jsonl", content), purpose="batch")
    assert client.files.content(kept.id).content == content and client.files.retrieve(kept.id) == kept
    return client.batches.create(
        input_file_id=kept.id, endpoint=url, completion_window="24h", metadata={"order": "4711"}
    )


def ended(client: "OpenAI", batch: "Batch") -> "Batch":
    def found() -> "Batch | None":
        now = client.batches.retrieve(batch.id)
        return now if now.status not in ("in_progress", "cancelling") else None

    told: Batch = wait_for(found, 200.0, "the batch's end")
    return told


def results(client: "OpenAI", file_id: str | None) -> dict[str, Any]:
    assert file_id is not None
    lines = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    assert len({line["custom_id"] for line in lines}) == len(lines)
    return {line["custom_id"]: line for line in lines}


def question(number: int) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": f"hello {number}"}], "max_tokens": 8}


def test_questions_are_answered_though_an_api_process_is_killed(client: "OpenAI", serve: Tree) -> None:
    batch = begin(client, "/v1/chat/completions", [*map(question, range(30)), {"model": "gpt-4o"}])
    assert batch.status == "in_progress" and batch.metadata == {"order": "4711"}
    wait_for(lambda: (client.batches.retrieve(batch.id).request_counts or 0).completed >= 2, 100.0)  # type: ignore[union-attr]
    for process in serve.processes(" api "):  # one of them works on the batch; the supervisor starts others
        process.kill()
    done = ended(client, batch)
    assert done.status == "completed" and done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (30, 1)
    answered = results(client, done.output_file_id)
    assert all(line["response"]["body"]["choices"][0]["message"]["content"] for line in answered.values())
    [failed] = results(client, done.error_file_id).values()
    assert failed["custom_id"] == "line30" and failed["response"]["status_code"] == 400
    assert any(one.id == done.id for one in client.batches.list(limit=1))


def test_pictures_are_painted(client: "OpenAI") -> None:
    done = ended(client, begin(client, "/v1/images/generations", [{"prompt": "red apple"}, {"prompt": "红苹果"}]))
    answered = results(client, done.output_file_id)
    assert len(answered) == 2 and all(line["response"]["body"]["data"][0]["b64_json"] for line in answered.values())


def test_a_batch_is_cancelled_and_its_files_deleted(client: "OpenAI") -> None:
    from openai import BadRequestError, ConflictError, NotFoundError

    batch = begin(client, "/v1/chat/completions", [*map(question, range(400))])
    with pytest.raises(ConflictError):
        client.files.delete(batch.input_file_id)
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = ended(client, batch)
    assert done.status == "cancelled" and done.request_counts is not None and done.request_counts.failed > 300
    assert results(client, done.error_file_id)["line399"]["error"]["code"] == "batch_cancelled"
    with pytest.raises(BadRequestError):
        client.batches.cancel(batch.id)
    assert client.files.delete(batch.input_file_id).deleted
    with pytest.raises(NotFoundError):
        client.files.retrieve(batch.input_file_id)


def test_a_wrong_file_names_its_lines(client: "OpenAI") -> None:
    kept = client.files.create(file=("requests.jsonl", b"{}\n"), purpose="batch")
    batch = client.batches.create(input_file_id=kept.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert batch.status == "failed" and batch.errors is not None and batch.errors.data is not None
    assert (batch.errors.data[0].line, batch.errors.data[0].code) == (1, "invalid_json_line")
    assert client.files.list(purpose="batch").data[0].id == kept.id
