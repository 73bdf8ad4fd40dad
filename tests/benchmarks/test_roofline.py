"""The arithmetic of SPEC §12, and the page that is made of it."""

import pytest

from benchmarks.roofline import (
    PAGE,
    PUBLISHED_LLM,
    computed_page,
    measure,
    paint_table,
    shares,
    step_flop,
    token_bytes,
    weight_bytes,
)


@pytest.mark.parametrize(("precision", "gigabytes"), [("float16", 19.23), ("int8", 9.97), ("int4", 5.48)])
def test_bytes_of_the_published_weights(precision: str, gigabytes: float) -> None:
    assert sum(weight_bytes(PUBLISHED_LLM, precision).values()) / 1e9 == pytest.approx(gigabytes, abs=0.02)


def test_a_token_of_the_published_model() -> None:
    assert token_bytes(PUBLISHED_LLM, "float16") == 786_432
    assert step_flop(PUBLISHED_LLM, 1, 0) / 1e9 == pytest.approx(19.23, abs=0.01)


@pytest.mark.slow
def test_a_call_of_the_published_unet() -> None:
    assert paint_table()[1][1] == "0.80"


@pytest.mark.slow
def test_the_page_is_what_the_program_writes() -> None:
    """But for what was measured, which no second run finds again."""
    assert PAGE.read_text().startswith(computed_page() + "\n## Measured")


def test_shares_are_of_the_limit() -> None:
    measured = measure({"limit": (lambda: None, 100.0), "half": (lambda: None, 50.0)}, rounds=3)
    rows = shares({name: (1.0, 100.0 if name == "limit" else 50.0) for name in measured}, "limit")
    assert [row["share"] for row in rows] == [1.0, 0.5]
