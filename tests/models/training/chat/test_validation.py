"""Shares of exact answers, counted by hand from what the model really says."""

from dataclasses import replace

import pytest

from models.checkpoints.loading import LoadedChat
from models.datasets.examples import Conversation, Round
from models.evaluation.asking import PictureQuestions, ask
from models.jobs import ChatGeneration
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.training.chat.validation import MAX_ANSWER_TOKENS, exact_matches

GREEDY = ChatGeneration(num_beams=1, max_new_tokens=MAX_ANSWER_TOKENS)


@pytest.fixture
def told(model: ChatModel, tokenizer: Tokenizer, conversations: list[Conversation]) -> list[Conversation]:
    """Conversations of two rounds, whose answers are what the model says in them."""
    chat = LoadedChat(model, tokenizer, model.config, fingerprint="", untrained=False)
    questions = ("What is it?", "图 What?")
    asked = [PictureQuestions(conversation.pixels, questions) for conversation in conversations[:3]]  # type: ignore[arg-type]
    answers = ask(chat, asked, GREEDY)
    rounds = [tuple(Round(q, a) for q, a in zip(questions, said, strict=True)) for said in answers]
    return [replace(one, rounds=found) for one, found in zip(conversations, rounds, strict=False)]


def of_kinds(conversation: Conversation, *kinds: tuple[str, str], wrong: tuple[int, ...] = ()) -> Conversation:
    """With (kind, language) for its rounds, and the answers at `wrong` spoilt."""
    rounds = [
        replace(turn, kind=kind, language=language, answer=turn.answer + "!" * (place in wrong))  # type: ignore[arg-type]
        for place, (turn, (kind, language)) in enumerate(zip(conversation.rounds, kinds, strict=True))
    ]
    return replace(conversation, rounds=tuple(rounds))


@pytest.mark.slow
def test_shares_are_by_kind_and_language_and_over_all(
    model: ChatModel, tokenizer: Tokenizer, told: list[Conversation]
) -> None:
    name, side = ("name", "en"), ("side", "zh")
    asked = [
        of_kinds(told[0], name, side),
        of_kinds(told[1], name, side, wrong=(0,)),
        of_kinds(told[2], name, ("name", "zh"), wrong=(0, 1)),
    ]
    assert exact_matches(model, tokenizer, asked) == {
        "exact": 3 / 6,
        "exact_name_en": 1 / 3,
        "exact_name_zh": 0.0,
        "exact_side_zh": 1.0,
    }


@pytest.mark.slow
def test_a_round_without_a_kind_is_said_again_but_not_counted(
    model: ChatModel, tokenizer: Tokenizer, told: list[Conversation]
) -> None:
    """The second round's history holds the model's own answer, whatever the first was to be."""
    asked = [of_kinds(told[0], ("", ""), ("side", "zh"), wrong=(0,))]
    assert exact_matches(model, tokenizer, asked) == {"exact": 1.0, "exact_side_zh": 1.0}


@pytest.mark.slow
def test_without_kinds_or_pictures_there_is_nothing_to_measure(
    model: ChatModel, tokenizer: Tokenizer, told: list[Conversation]
) -> None:
    assert exact_matches(model, tokenizer, told) == {}
    unseen = replace(of_kinds(told[0], ("name", "en"), ("side", "zh")), pixels=None)
    assert exact_matches(model, tokenizer, [unseen]) == {}
    assert exact_matches(model, tokenizer, []) == {}
