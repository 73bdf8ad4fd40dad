"""Who is let in."""

import asyncio

from service.access.key_store import KeyStore
from service.core.settings import Settings
from service.doctor.keys import check_keys
from service.redis.connection import open_redis


def test_requests_of_this_machine_need_none() -> None:
    assert check_keys(Settings(), "")[0].found == "requests need none: only this machine can ask"
    assert check_keys(Settings(host="0.0.0.0", auth="off"), "")[0].level == "ok"


def test_an_open_address_without_a_word_about_keys() -> None:
    [told] = check_keys(Settings(host="0.0.0.0"), "")
    assert told.level == "problem" and "VISCPM_AUTH=on and `viscpm keys create`" in told.fix


def test_keys_cannot_be_read_before_the_server_runs() -> None:
    assert check_keys(Settings(auth="on"), "")[0].level == "note"


def test_keys_that_there_are(redis_url: str) -> None:
    settings = Settings(redis_url=redis_url, auth="on")
    assert "none was ever made" in check_keys(settings, redis_url)[0].cause

    async def create() -> str:
        store = KeyStore(open_redis(settings), settings)
        key, _ = await store.create("ann", "default", ("chat",))
        await store.close()
        return key.id

    async def revoke(key_id: str) -> None:
        store = KeyStore(open_redis(settings), settings)
        await store.revoke(key_id)
        await store.close()

    key_id = asyncio.run(create())
    assert [one.level for one in check_keys(settings, redis_url)] == ["ok", "note"]
    assert check_keys(settings.model_copy(update={"api_key": "vk-1"}), redis_url)[0].found == "1 live"
    asyncio.run(revoke(key_id))
    assert "the 1 there were have expired or are revoked" in check_keys(settings, redis_url)[0].cause
