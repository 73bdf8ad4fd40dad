"""Keys: all of one stack in one slot of a cluster, and none of another stack's."""

import pytest
import redis.exceptions
from redis.crc import key_slot

from service.core.settings import SettingsError, read_settings
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import KINDS, Keys


def all_keys(keys: Keys) -> list[str]:
    named = [value for name, value in vars(keys).items() if isinstance(value, str) and name[0] != "_" and name != "tag"]
    of_kinds = [make(kind) for kind in KINDS for make in (keys.slots, keys.jobs, keys.dead, keys.model)]
    return [
        *named,
        *of_kinds,
        *keys.of_job("chat-1"),
        *keys.conversation("t:1"),
        *keys.conversation_books,
        keys.tenant_jobs("t"),
        keys.idempotency("t", "0" * 64),
        *keys.of_key("0123456789ab", "2026-11-30"),
        *keys.vision_cache,
        *keys.verdict_cache,
        *keys.linked_pictures,
        keys.latest_painting("t"),
        keys.inbox("host-1"),
        *keys.of_file("t", "file-1")[2:],
        *keys.of_batch("t", "batch_1")[1:],
        keys.tenant_batches("t"),
    ]


@pytest.mark.parametrize("prefix", ["viscpm", "a:b", "team.x_1-2"])
def test_all_keys_lie_in_one_slot_and_begin_with_the_prefix(prefix: str) -> None:
    keys = all_keys(Keys(prefix))
    assert len(keys) > 40 and all(key.startswith(f"{{{prefix}}}:") for key in keys)
    assert {key_slot(key.encode()) for key in keys} == {key_slot(prefix.encode())}


def test_no_two_stacks_and_no_two_things_share_a_key() -> None:
    ours, theirs = all_keys(Keys("viscpm")), all_keys(Keys("viscpm2"))
    assert not set(ours) & set(theirs)
    once = Keys("viscpm")
    assert len({once.job("1"), once.pixels("1"), *once.conversation("1"), once.inbox("1"), *once.vision_cache}) == 12


@pytest.mark.parametrize("prefix", ["", "a{b", "a}b", "a b", "x" * 65, "ü"])
def test_a_prefix_that_would_move_the_slot_is_refused(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_REDIS_PREFIX", prefix)
    with pytest.raises(SettingsError, match="VISCPM_REDIS_PREFIX"):
        read_settings()


async def test_a_script_fails_where_it_uses_a_key_that_it_was_not_handed(servers: RedisServers) -> None:
    """What the other tests of this folder rely on."""
    keys = Keys("viscpm")
    connection = RedisConnection(servers)
    with pytest.raises(redis.exceptions.ResponseError, match="not in KEYS"):
        await connection.transition("reserve", keys.of_jobs(), "chat", "id", "api", "", 1, 1000, 1000)
    await connection.close()
