"""Slots of beams: those of a live beam's past are kept, all others are used again."""

import random

from models.engines.chat.answer_slots import AnswerSlots


def test_one_beam_takes_a_slot_a_token() -> None:
    slots = AnswerSlots(1)
    assert [slots.feed([0]) for _ in range(4)] == [[0], [1], [2], [3]]
    assert (slots.size, slots.num_live) == (4, 4)


def test_a_dead_beams_slots_are_used_again() -> None:
    slots = AnswerSlots(3)
    assert slots.feed([0, 1, 2]) == [0, 1, 2]
    assert slots.feed([0, 0, 0]) == [1, 2, 3], "beams 1 and 2 died, and their slots with them"
    assert slots.feed([2, 2, 1]) == [1, 4, 5], "beam 0's token is free, those of 1 and 2 are not"
    assert slots.num_live == 6


def test_pasts_are_kept_whatever_the_parents_are() -> None:
    """Against each beam's whole past, kept as a list."""
    generator = random.Random(3)
    for width in (1, 2, 3, 5):
        slots = AnswerSlots(width)
        owners: dict[int, tuple[int, int]] = {}  # slot -> the (step, beam) whose token it holds
        pasts: list[list[tuple[int, int]]] = [[] for _ in range(width)]
        places: dict[tuple[int, int], int] = {}
        for step in range(200):
            parents = [generator.randrange(width) for _ in range(width)]
            given = slots.feed(parents)
            assert len(set(given)) == width
            pasts = [[*pasts[parent], (step, beam)] if step else [(0, beam)] for beam, parent in enumerate(parents)]
            for beam, slot in enumerate(given):
                owners[slot] = places_key = (step, beam)
                places[places_key] = slot
            live = {token for past in pasts for token in past}
            assert all(owners[places[token]] == token for token in live), "a live token's slot was given away"
            assert slots.num_live == len(live)
        assert slots.size < 200 + 40 * width, "slots grow with the length, not with length times beams"
