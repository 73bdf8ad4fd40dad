"""Keys on a real server: what is stored of them, and for how long an API process believes what it knows."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from service.access.api_keys import KeyChange, KeyLimits, new_text
from service.access.key_store import KeyStore, KnownKeys
from service.core.errors import BusUnavailable, InvalidApiKey
from service.core.settings import Settings
from service.process.embedded_redis import EmbeddedServer
from service.redis.connection import RedisServers, open_redis


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def store(servers: RedisServers) -> AsyncIterator[KeyStore]:
    opened = KeyStore(servers, Settings())
    yield opened
    await opened.close()


async def test_a_key_is_stored_without_its_text(store: KeyStore, client: "redis.asyncio.Redis") -> None:
    key, text = await store.create("app", "acme", ("chat", "paint"), 60, ("chat",), KeyLimits(10, 100, 2))
    assert await store.find(key.id) == key and await store.all() == [key]
    assert (key.tenant, key.scopes, key.models, key.limits.max_jobs) == ("acme", ("chat", "paint"), ("chat",), 2)
    assert key.expires == key.created + 60
    dumped = str(await client.hgetall("{viscpm}:api_keys"))
    assert text not in dumped and text.removeprefix(f"vk-{key.id}-") not in dumped
    assert await store.find("0" * 12) is None


async def test_a_key_is_known_by_its_text_alone(store: KeyStore) -> None:
    known = KnownKeys(store, Settings())
    key, text = await store.create("app", "acme", ("chat",))
    assert await known.authenticate(text) == key
    for wrong in ("", "vk-x", text[:-1], text[:-2] + "__", new_text(key.id).text, new_text("0" * 12).text):
        with pytest.raises(InvalidApiKey, match="wrong, has expired or was revoked"):
            await known.authenticate(wrong)


async def test_a_revoked_key_is_believed_for_some_seconds_and_no_longer(store: KeyStore) -> None:
    clock = Clock()
    known = KnownKeys(store, Settings(key_cache_s=5), clock)
    key, text = await store.create("app", "acme", ("chat",))
    await known.authenticate(text)
    assert (await store.revoke(key.id)).revoked  # type: ignore[union-attr]
    clock.now_s += 4.9
    await known.authenticate(text)
    clock.now_s += 0.2
    with pytest.raises(InvalidApiKey):
        await known.authenticate(text)
    assert await store.revoke("0" * 12) is None


async def test_an_expired_key_is_refused_at_once(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownKeys(store, Settings(key_cache_s=300))
    key, text = await store.create("app", "acme", ("chat",), lifetime_s=60)
    await known.authenticate(text)
    monkeypatch.setattr("service.access.key_store.time.time", lambda: key.expires + 1.0)
    with pytest.raises(InvalidApiKey):
        await known.authenticate(text)
    assert await store.rotate(key.id) is None, "what has expired is not brought back"


async def test_rotation_keeps_the_key_and_changes_its_text(store: KeyStore) -> None:
    known = KnownKeys(store, Settings(key_cache_s=0))
    key, text = await store.create("app", "acme", ("chat",))
    rotated = await store.rotate(key.id, overlap_s=60)
    assert rotated is not None and rotated[0].id == key.id and rotated[1] != text
    assert (await known.authenticate(text)).id == (await known.authenticate(rotated[1])).id == key.id
    again = await store.rotate(key.id)
    assert again is not None
    for void in (text, rotated[1]):
        with pytest.raises(InvalidApiKey):
            await known.authenticate(void)
    assert (await known.authenticate(again[1])).tenant == "acme"
    assert await store.rotate("0" * 12) is None


async def test_what_is_known_costs_no_exchange_and_is_bounded(
    store: KeyStore, client: "redis.asyncio.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.access.key_store._MAX_KNOWN", 3)
    known = KnownKeys(store, Settings())
    _, text = await store.create("app", "acme", ("chat",))
    await known.authenticate(text)
    before = int((await client.info("commandstats"))["cmdstat_hget"]["calls"])
    for _ in range(50):
        await known.authenticate(text)
    assert int((await client.info("commandstats"))["cmdstat_hget"]["calls"]) == before
    for number in range(10):
        with pytest.raises(InvalidApiKey):
            await known.authenticate(new_text(f"{number:012x}").text)
    assert len(known._known) == 3


async def test_no_key_is_good_while_nobody_can_say(own_server: EmbeddedServer) -> None:
    settings = Settings(redis_url=own_server.url)
    store = KeyStore(open_redis(settings), settings)
    _, text = await store.create("app", "acme", ("chat",))
    own_server.stop()
    with pytest.raises(BusUnavailable):
        await KnownKeys(store, settings).authenticate(text)
    await store.close()


async def test_a_key_is_found_by_its_id_while_it_is_live(store: KeyStore) -> None:
    known = KnownKeys(store, Settings(key_cache_s=0))
    key, _ = await store.create("app", "acme", ("chat",))
    assert await known.live(key.id) == key
    await store.revoke(key.id)
    for key_id in (key.id, "", "0" * 12):
        with pytest.raises(InvalidApiKey):
            await known.live(key_id)


async def test_a_changed_key_goes_by_it_after_the_time_for_which_it_is_known(store: KeyStore) -> None:
    clock = Clock()
    known = KnownKeys(store, Settings(key_cache_s=5), clock)
    key, text = await store.create("app", "acme", ("chat", "paint"), limits=KeyLimits(10, 0, 2))
    assert await known.authenticate(text) == key
    changed = await store.change(key.id, KeyChange(scopes=("chat",), requests_per_min=3))
    assert changed is not None and changed.limits == KeyLimits(3, 0, 2) and changed.sha256 == key.sha256
    assert await known.authenticate(text) == key
    clock.now_s += 5.1
    assert await known.authenticate(text) == changed and not changed.may("paint")


async def test_who_changes_a_key_that_is_revoked_meanwhile_does_not_make_it_live(store: KeyStore) -> None:
    key, _ = await store.create("app", "acme", ("chat",))
    changes = [store.change(key.id, KeyChange(max_jobs=number)) for number in range(1, 20)]
    await asyncio.gather(*changes[:10], store.revoke(key.id), *changes[10:], store.rotate(key.id))
    found = await store.find(key.id)
    assert found is not None and found.revoked
    assert await store.change(key.id, KeyChange(name="late")) is None and await store.rotate(key.id) is None
