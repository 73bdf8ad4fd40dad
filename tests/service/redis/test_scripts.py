"""Every transition becomes a script that the server compiles, and is called by its digest."""

import hashlib
import re
from pathlib import Path

import pytest
import redis.asyncio

from service.redis import scripts
from service.redis.scripts import read_scripts, sha_of, source_of

FOLDER = Path(scripts.__file__).parent


@pytest.mark.slow
async def test_every_transition_compiles_and_is_found_by_its_digest(client: "redis.asyncio.Redis") -> None:
    written = re.findall(r"^function transition\.(\w+)\(", "".join(p.read_text() for p in FOLDER.glob("*.lua")), re.M)
    sources = read_scripts()
    assert sorted(sources) == sorted(written) and len(set(written)) == len(written) > 25
    for name, source in sources.items():
        loaded = await client.script_load(source)
        loaded = loaded.decode() if isinstance(loaded, bytes) else loaded
        assert loaded == hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), name
        assert hashlib.sha1(source_of(sha_of(name)).encode(), usedforsecurity=False).hexdigest() == sha_of(name)


def test_what_two_transitions_share_stands_before_the_first_of_their_file() -> None:
    """A local function between two of them would be in the script of the one above alone."""
    for path in FOLDER.glob("*.lua"):
        _, *rest = path.read_text("utf-8").split("function transition.")
        for transition in rest:
            assert not re.search(r"^local ", transition, re.M), (path.name, transition[:40])


@pytest.mark.slow
def test_no_script_asks_for_what_managed_servers_refuse() -> None:
    """No publishing from a script, and no keys unpacked (PUBLISH and `unpack(KEYS)` are refused by some)."""
    for source in read_scripts().values():
        assert "PUBLISH" not in source and "unpack(KEYS" not in source


@pytest.mark.slow
def test_a_script_holds_what_it_uses_and_nothing_else() -> None:
    """A server runs a script from its first line, each time."""
    shared = {}
    for path in FOLDER.glob("*.lua"):
        head, *rest = path.read_text("utf-8").split("function transition.")
        for transition in rest:
            shared[transition[: transition.index("(")]] = head
    for name, source in read_scripts().items():
        for line in re.findall(r"^local (?:function )?\w+(?:, \w+)*", shared[name], re.M):
            names = re.sub(r"^local (function )?", "", line).split(", ")
            uses = list(re.finditer(rf"\b({'|'.join(names)})\b", source))
            if line not in source:
                assert not uses, f"{name} uses {names} and does not define them"
                continue
            assert len(uses) > len(names), f"{name} defines {names} and does not use them"
            assert source.index(line) < uses[0].start(), f"{name} uses {names} before they are defined"
    assert "append_turn" in read_scripts()["finish"] and "append_turn" not in read_scripts()["renew_slot"]
