"""Batches as a client makes them."""

import json
from typing import Any

import httpx

from tests.service.tree import eventually


def request_line(custom_id: str, body: dict[str, Any], url: str = "/v1/chat/completions") -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def question(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **fields}


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def upload(client: httpx.AsyncClient, content: bytes, **fields: Any) -> httpx.Response:
    return await client.post("/v1/files", data={"purpose": "batch", **fields}, files={"file": ("in.jsonl", content)})


async def begin(client: httpx.AsyncClient, lines: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A batch of these lines, as the answer tells it."""
    uploaded = await upload(client, jsonl(lines))
    assert uploaded.status_code == 200, uploaded.text
    asked = {"input_file_id": uploaded.json()["id"], "endpoint": lines[0]["url"], "completion_window": "24h", **fields}
    begun = await client.post("/v1/batches", json=asked)
    assert begun.status_code == 200, begun.text
    told: dict[str, Any] = begun.json()
    return told


async def ended(client: httpx.AsyncClient, batch_id: str, within_s: float = 30.0) -> dict[str, Any]:
    async def has_ended() -> bool:
        return (await client.get(f"/v1/batches/{batch_id}")).json()["status"] not in ("in_progress", "cancelling")

    await eventually(has_ended, within_s)
    told: dict[str, Any] = (await client.get(f"/v1/batches/{batch_id}")).json()
    return told


async def results(client: httpx.AsyncClient, file_id: str | None) -> dict[str, Any]:
    """Lines of a file of results by custom_id; each is there once."""
    if file_id is None:
        return {}
    lines = [json.loads(line) for line in (await client.get(f"/v1/files/{file_id}/content")).text.splitlines()]
    assert len({line["custom_id"] for line in lines}) == len(lines)
    return {line["custom_id"]: line for line in lines}
