"""/v1/files over HTTP."""

import asyncio

import pytest

from tests.service.http.access.keyed import keyed
from tests.service.http.batch_calls import begin, question, request_line, upload
from tests.service.web import Service, assert_error, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.slow
async def test_a_file_is_kept_listed_read_and_deleted(module_service: Service) -> None:
    client, content = module_service.client, b'{"a": 1}\n\xff\n'
    kept = (await upload(client, content)).json()
    assert (kept["object"], kept["bytes"], kept["filename"], kept["purpose"]) == ("file", 11, "in.jsonl", "batch")
    assert kept["expires_at"] - kept["created_at"] == module_service.state.settings.file_ttl_s
    path = f"/v1/files/{kept['id']}"
    assert (await client.get(path)).json() == kept
    read = await client.get(f"{path}/content")
    assert read.content == content and read.headers["content-type"] == "application/jsonl"
    listed = (await client.get("/v1/files", params={"purpose": "batch", "limit": 1})).json()
    assert listed["data"] == [kept] and (listed["first_id"], listed["last_id"]) == (kept["id"], kept["id"])
    assert (await client.get("/v1/files", params={"purpose": "batch_output"})).json()["data"] == []
    assert (await client.delete(path)).json() == {"id": kept["id"], "deleted": True, "object": "file"}
    for answer in (await client.get(path), await client.delete(path), await client.get(f"{path}/content")):
        assert_error(answer, 404, "file_not_found")


async def test_a_file_may_expire_earlier(module_service: Service) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    kept = (await upload(module_service.client, b"x", **fields)).json()
    assert kept["expires_at"] - kept["created_at"] == 3600


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"purpose": ""}, "purpose"),
        ({"other": "x"}, "other"),
        ({"expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "1"}, "expires_after[seconds]"),
    ],
)
async def test_fields_that_cannot_be_are_named(module_service: Service, fields: dict[str, str], param: str) -> None:
    assert_error(await upload(module_service.client, b"x", **fields), 400, "invalid_request", param)


async def test_what_is_no_upload_is_refused(module_service: Service) -> None:
    client = module_service.client
    assert_error(await client.post("/v1/files", json={"purpose": "batch"}), 415, "unsupported_media_type")
    without = await client.post("/v1/files", files={"purpose": (None, "batch")})
    assert_error(without, 400, "invalid_request", "file")
    assert_error(await upload(client, b"x" * (20 << 20)), 413, "content_too_large")
    assert_error(await client.get("/v1/files", params={"after": "file-none"}), 404, "file_not_found")


@pytest.mark.slow
async def test_no_room_is_507_and_not_asked_again(module_service: Service) -> None:
    changed = {"file_bytes": 3000, "tenant_file_bytes": 3000}
    async with serving(module_service.state.settings.model_copy(update=changed)) as small:
        await small.redis.delete("{viscpm}:file_bytes")
        assert_error(await upload(small.client, b"x" * 4000), 413, "content_too_large")
        assert (await upload(small.client, b"x" * 2000)).status_code == 200
        full = await upload(small.client, b"x" * 2000)
        assert_error(full, 507, "storage_full")
        assert full.headers["x-should-retry"] == "false"


async def test_what_a_batch_reads_is_409_to_delete(module_service: Service) -> None:
    client = module_service.client
    settings = module_service.state.settings.model_copy(update={"batch_jobs": 0, "redis_prefix": "apart"})
    async with serving(settings) as resting:
        batch = await begin(resting.client, [request_line("a", question("echo x"))])
        refused = await resting.client.delete(f"/v1/files/{batch['input_file_id']}")
        assert_error(refused, 409, "file_in_use")
        assert refused.headers["x-should-retry"] == "false"
    assert (await client.get(f"/v1/files/{batch['input_file_id']}")).status_code == 404, "another stack's"


@pytest.mark.slow
async def test_files_of_others_are_404(module_service: Service) -> None:
    async with keyed(module_service.state.settings) as service:
        (ours, _), (theirs, _) = await service.client("acme"), await service.client("other")
        kept = (await upload(ours, b"x")).json()
        path = f"/v1/files/{kept['id']}"
        calls = [theirs.get(path), theirs.get(f"{path}/content"), theirs.delete(path)]
        for answer in await asyncio.gather(*calls, theirs.get("/v1/files", params={"after": kept["id"]})):
            assert_error(answer, 404, "file_not_found")
        assert (await theirs.get("/v1/files")).json()["data"] == []
        assert (await ours.get(path)).json() == kept
        assert_error(await service.service.client.get(path), 401, "invalid_api_key")
