"""A stop is found in the token that completes it, whatever the tokens are."""

import random

import pytest

from models.engines.chat.search.stop_texts import StopTexts


@pytest.mark.parametrize("seed", range(200))
def test_the_first_token_with_which_a_stop_is_complete(seed: int) -> None:
    chance = random.Random(seed)

    def text(longest: int) -> str:
        return "".join(chance.choices("ab ", k=chance.randint(1, longest)))

    tokens, stops = [text(3) for _ in range(20)], [text(5) for _ in range(chance.randint(0, 3))]
    reading = StopTexts(stops)
    for number, token in enumerate(tokens, start=1):
        has_one = any(stop in "".join(tokens[:number]) for stop in stops)
        assert reading.read(token) == reading.is_reached == has_one and reading.num_read == number
        if has_one:
            break
