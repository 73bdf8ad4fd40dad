"""Pictures at signed addresses: one key for all processes, an end, a budget."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from service.core.errors import ImageNotFound, Unavailable
from service.core.settings import Settings
from service.image_output.picture_links import PictureLinks
from service.redis.connection import RedisServers


@pytest.fixture
async def processes(servers: RedisServers) -> AsyncIterator[list[PictureLinks]]:
    opened = [PictureLinks(servers, Settings(image_url_bytes=5000, image_url_ttl_s=60)) for _ in range(3)]
    yield opened
    for one in opened:
        await one.close()


async def test_processes_that_begin_together_agree_on_the_key(processes: list[PictureLinks]) -> None:
    kept = await asyncio.gather(*(one.keep([b"a%d" % i, b"b%d" % i], "webp") for i, one in enumerate(processes)))
    for number, links in enumerate(kept):
        assert all(link.name.endswith(".webp") and link.expires >= time.time() + 58 for link in links)
        for process in processes:
            assert [await process.picture(link) for link in links] == [b"a%d" % number, b"b%d" % number]


async def test_no_part_of_an_address_can_be_changed(processes: list[PictureLinks]) -> None:
    first, second = await processes[0].keep([b"a", b"b"], "webp")
    for wrong in (
        first._replace(name=second.name),
        first._replace(expires=first.expires + 1),
        first._replace(signature=second.signature),
        first._replace(signature=""),
        first._replace(signature=first.signature + "="),
    ):
        with pytest.raises(ImageNotFound, match="the signature is not of this"):
            await processes[1].picture(wrong)


async def test_pictures_keep_to_their_budget(processes: list[PictureLinks], client: "redis.asyncio.Redis") -> None:
    links = [(await processes[0].keep([b"x" * 1000], "webp"))[0] for _ in range(5)]
    with pytest.raises(ImageNotFound, match="made room"):
        await processes[0].picture(links[0])
    assert await processes[0].picture(links[-1]) == b"x" * 1000
    assert int(await client.get("{viscpm}:linked-pictures:bytes") or 0) <= 5000
    with pytest.raises(Unavailable, match="5001 bytes has no room .* 5000 bytes are all"):
        await processes[0].keep([b"x" * 5001], "webp")


async def test_who_loses_the_key_knows_no_address_of_before(
    processes: list[PictureLinks], client: "redis.asyncio.Redis"
) -> None:
    [link] = await processes[0].keep([b"a"], "webp")
    assert len(await client.get("{viscpm}:link-key") or b"") == 32
    await client.delete("{viscpm}:link-key")
    with pytest.raises(ImageNotFound, match="signature"):
        await processes[0].picture(link)
