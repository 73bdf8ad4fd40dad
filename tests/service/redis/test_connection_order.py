"""Calls are executed in the order in which they were asked for, also where the server lacks one's script."""

import asyncio

import redis.asyncio

from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys
from service.redis.scripts import sha_of, source_of

KEYS = Keys("viscpm").of_job("a")
RESERVE = ("chat", "a", "api-1", "", 8, 60_000, 60_000, 0, 0, 0, 0, 0, 0, "")


async def test_a_script_that_is_not_there_is_sent_again_before_what_was_asked_for_later(
    client: "redis.asyncio.Redis", servers: RedisServers
) -> None:
    await client.script_flush()
    await client.script_load(source_of(sha_of("renew_slot")))
    connection = RedisConnection(servers)
    try:
        granted = connection.begin_transition("reserve", KEYS, *RESERVE)
        kept = connection.begin_transition("renew_slot", KEYS, "a", 60_000)
        assert (await granted, await kept) == ([1], 1)
    finally:
        await connection.close()


async def test_scripts_that_are_known_travel_together(client: "redis.asyncio.Redis", servers: RedisServers) -> None:
    connection = RedisConnection(servers)
    try:
        assert await connection.transition("reserve", KEYS, *RESERVE) == [1]
        assert await connection.transition("renew_slot", KEYS, "a", 60_000) == 1
        before = await client.info("stats")
        await asyncio.gather(*(connection.begin_transition("renew_slot", KEYS, "a", 60_000) for _ in range(50)))
        after = await client.info("stats")
        assert after["total_commands_processed"] - before["total_commands_processed"] >= 50
        assert after["total_reads_processed"] - before["total_reads_processed"] < 10
    finally:
        await connection.close()
