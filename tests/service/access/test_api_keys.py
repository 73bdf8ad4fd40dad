"""A key's text, what is stored of it, and what it may do."""

import statistics
import time

import pytest

from service.access.api_keys import NAME, NOBODY, ApiKey, KeyLimits, digest_of, id_in, new_key_id, new_text

NOW = 1_000_000.0


def key(**changed: object) -> tuple[ApiKey, str]:
    text, sha256 = new_text(key_id := new_key_id())
    fields = {"id": key_id, "name": "app", "tenant": "t", "scopes": ("chat",), "sha256": sha256, "created": 1}
    return ApiKey(**{**fields, **changed}), text  # type: ignore[arg-type]


def test_a_text_names_its_id_and_holds_32_random_bytes() -> None:
    text, sha256 = new_text("0123456789ab")
    assert text.startswith("vk-0123456789ab-") and len(text.rpartition("-")[2]) <= 43
    assert id_in(text) == "0123456789ab" and len(text) == len("vk-0123456789ab-") + 43
    assert sha256 == digest_of(text) and len(sha256) == 32
    assert len({new_text("0123456789ab").text for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["", "vk-", "sk-0123456789ab-" + "x" * 43, "vk-0123456789AB-" + "x" * 43, "ü"])
def test_what_is_no_text_names_nobody(text: str) -> None:
    assert id_in(text) == ""
    assert not NOBODY.has_text(text, NOW)


def test_the_right_text_and_no_other() -> None:
    one, text = key()
    assert one.has_text(text, NOW)
    assert not one.has_text(text[:-1] + ("a" if text[-1] != "a" else "b"), NOW)
    assert not NOBODY.has_text("", NOW), "the digest of nothing is nobody's"


def test_a_former_text_is_taken_until_its_time_is_over() -> None:
    _, former = key()
    one, text = key(former_sha256=digest_of(former), former_until=NOW)
    assert one.has_text(former, NOW - 1) and one.has_text(text, NOW + 1)
    assert not one.has_text(former, NOW)


def test_it_lives_until_it_expires_or_is_revoked() -> None:
    assert key()[0].is_live(NOW)
    assert key(expires=NOW + 1)[0].is_live(NOW) and not key(expires=NOW)[0].is_live(NOW)
    assert not key(revoked=1)[0].is_live(NOW)


def test_scopes_and_models() -> None:
    one, _ = key(models=("chat", "viscpm-paint"))
    assert one.may("chat") and not one.may("paint") and not one.may("admin")
    assert key(scopes=("admin",))[0].may("paint")
    assert one.may_ask("chat", "any") and one.may_ask("paint", "viscpm-paint") and not one.may_ask("paint", "other")
    assert key()[0].may_ask("paint", "other")
    assert KeyLimits().are_none and not KeyLimits(max_jobs=1).are_none


@pytest.mark.parametrize(
    ("name", "is_one"), [("a", True), ("A.b_c-1", True), ("a:b", False), ("", False), ("x" * 65, False)]
)
def test_names(name: str, is_one: bool) -> None:
    assert bool(NAME.fullmatch(name)) is is_one


def test_a_wrong_text_takes_as_long_as_the_right_one() -> None:
    """Medians over many, in turn, so that a busy machine slows all of them alike; the hash is most of each."""
    one, text = key()
    wrong = text[:-20] + "x" * 20
    asked = {"right": (one, text), "wrong": (one, wrong), "nobody's": (NOBODY, wrong)}
    took_s: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(3000):
        for name, (stored, presented) in asked.items():
            began_s = time.perf_counter()
            stored.has_text(presented, NOW)
            took_s[name].append(time.perf_counter() - began_s)
    medians_s = {name: statistics.median(each) for name, each in took_s.items()}
    assert max(medians_s.values()) < 1.5 * min(medians_s.values()), medians_s
