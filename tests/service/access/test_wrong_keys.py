"""Wrong keys: the first few are free, then each address waits longer, and nothing grows without end."""

import asyncio

import pytest

from service.access import wrong_keys
from service.access.wrong_keys import WrongKeys
from service.core.errors import RateLimited


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("addresses", "is_one"),
    [
        (("192.0.2.1", "192.0.2.1"), True),
        (("192.0.2.1", "192.0.2.2"), False),
        (("2001:db8::1", "2001:db8::ffff:2"), True),
        (("2001:db8::1", "2001:db8:0:1::1"), False),
        (("::ffff:192.0.2.1", "192.0.2.1"), True),
        (("fe80::1%eth0", "fe80::2"), True),
    ],
)
def test_whom_an_address_stands_for(addresses: tuple[str, str], is_one: bool) -> None:
    assert (wrong_keys._block(addresses[0]) == wrong_keys._block(addresses[1])) is is_one


def test_each_wrong_key_waits_longer_up_to_a_limit_and_is_forgiven() -> None:
    clock = Clock()
    seen = WrongKeys(clock)
    waits_s = [seen._wait_s("192.0.2.1") for _ in range(12)]
    assert waits_s == [0, 0, 0, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 5]
    assert seen._wait_s("192.0.2.2") == 0, "others do not wait"
    clock.now_s = 61.0
    assert seen._wait_s("192.0.2.1") == 0


def test_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong_keys, "_MAX_ADDRESSES", 5)
    seen = WrongKeys(Clock())
    for number in range(100):
        seen._wait_s(f"192.0.2.{number}")
    assert len(seen._seen) == 5


async def test_those_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong_keys, "_MAX_WAITING", 2)
    seen = WrongKeys(Clock(), lambda _: asyncio.sleep(30))
    for _ in range(3):
        await seen.slow_down("192.0.2.1")
    waiting = [asyncio.create_task(seen.slow_down("192.0.2.1")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited, match="too many wrong API keys"):
        await seen.slow_down("192.0.2.1")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert seen.num_waiting == 0
