"""What a watcher is given when a job is delivered again."""

import pytest
from hypothesis import given, strategies

from models.jobs import Delta, Progress
from service.queue.redelivery import DeliveredPrefix, NonDeterministicReplay
from tests.service.queue.deliveries import generated


def deltas(words: list[str]) -> list[Delta]:
    offsets = [sum(map(len, words[:i])) for i in range(len(words))]
    return [Delta(token_ids=[i], text=word, offset_chars=offsets[i]) for i, word in enumerate(words)]


words = strategies.lists(strategies.text(max_size=3), max_size=8)


@pytest.mark.slow
@given(words, strategies.lists(strategies.integers(0, 8), max_size=4))
def test_a_repeating_job_is_told_once(text: list[str], stops: list[int]) -> None:
    """However often and wherever it was interrupted."""
    told = DeliveredPrefix()
    received: list[Delta] = []
    for delivery, stop in enumerate([*stops, len(text)], start=1):
        new = [told.only_new(delivery, delta) for delta in deltas(text)[:stop]]
        received += [delta for delta in new if isinstance(delta, Delta)]
    assert "".join(delta.text for delta in received) == "".join(text)
    assert [token for delta in received for token in delta.token_ids] == list(range(len(text)))


def test_a_longer_delta_is_cut_to_its_new_part() -> None:
    told = DeliveredPrefix()
    told.only_new(1, Delta(token_ids=[1], text="ab", offset_chars=0))
    assert told.only_new(2, Delta(token_ids=[1, 2], text="abcd", offset_chars=0)) == Delta(
        token_ids=[2], text="cd", offset_chars=2
    )


def test_other_text_other_tokens_holes_and_early_ends_are_refused() -> None:
    def after_two() -> DeliveredPrefix:
        told = DeliveredPrefix()
        for delta in deltas(["ab", "cd"]):
            told.only_new(1, delta)
        return told

    with pytest.raises(NonDeterministicReplay, match="after character 0"):
        after_two().only_new(2, Delta(token_ids=[0], text="xb", offset_chars=0))
    with pytest.raises(NonDeterministicReplay, match="after character 0"):
        after_two().only_new(2, Delta(token_ids=[9], text="ab", offset_chars=0))
    with pytest.raises(NonDeterministicReplay, match="goes on at character 6, 4 were received"):
        after_two().only_new(1, Delta(token_ids=[3], text="gh", offset_chars=6))
    with pytest.raises(NonDeterministicReplay, match="ended after 0 characters, 4 were sent"):
        after_two().only_new(2, generated("ab"))


def test_progress_never_goes_back() -> None:
    told = DeliveredPrefix()
    steps = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    events = [told.only_new(delivery, Progress(step=step, total_steps=3)) for delivery, step in steps]
    assert [event.step for event in events if isinstance(event, Progress)] == [1, 2, 3]
