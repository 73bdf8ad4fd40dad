"""Prompts of chat jobs: escaping, the conversation so far, and what is dropped of it (SPEC §3.1, §6, §11)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engines.chat.prompt import ChatPrompt, build_prompt, chat_tree, pack_prompts, turn_text
from models.jobs import ChatGeneration, ChatJob, JobRejected, Turn
from models.networks.cpm_bee.packing import convert_chat, pack_chat
from models.networks.cpm_bee.tokenizer import Piece, Tokenizer, escape
from tests.models.conftest import SPECIAL, WORDS

NUM_IMAGE_TOKENS = 5


def job(
    question: str = "what",
    history: list[Turn] | None = None,
    pixels: bytes = b"rgb",
    max_input_tokens: int = 3000,
    strict_length: bool = False,
    raw_text: bool = False,
) -> ChatJob:
    generation = ChatGeneration(max_input_tokens=max_input_tokens)
    return ChatJob(
        job_id="job",
        question=question,
        history=history or [],
        pixels=pixels,
        generation=generation,
        strict_length=strict_length,
        raw_text=raw_text,
    )


def prompt_of(tokenizer: Tokenizer, made: ChatJob) -> ChatPrompt:
    return build_prompt(made, tokenizer, NUM_IMAGE_TOKENS)


def ids_of_tree(tokenizer: Tokenizer, question: str, context: str) -> list[int]:
    return pack_chat([chat_tree(question, context, NUM_IMAGE_TOKENS)], tokenizer).ids[0].tolist()


def test_the_tree_has_the_published_keys_in_order() -> None:
    assert list(chat_tree("q", "c", 2).items()) == [
        *(("image", "<unk><unk>"), ("context", "c"), ("question", "q"), ("<ans>", ""))
    ]


def test_history_is_written_as_turns_in_order(tokenizer: Tokenizer) -> None:
    history = [Turn(question="who", answer="a << b"), Turn(question="why", answer="<unk>")]
    prompt = prompt_of(tokenizer, job(history=history))
    context = "User: who\nAI: a << b\nUser: why\nAI: <unk>\n"
    assert "".join(turn_text(turn.question, turn.answer) for turn in history) == context
    assert prompt.sequence.tokens.ids == ids_of_tree(tokenizer, "what", context)
    assert (prompt.num_tokens, prompt.dropped_turns) == (len(prompt.sequence.tokens.ids), 0)
    assert prompt.num_image_tokens == NUM_IMAGE_TOKENS
    assert prompt.sequence.full_length == prompt.num_tokens + 2


def test_user_text_is_plain_unless_raw(tokenizer: Tokenizer) -> None:
    history = [Turn(question="is a<b", answer="x<<y")]
    plain = prompt_of(tokenizer, job("<unk> and <", history))
    assert plain.sequence.tokens.ids == ids_of_tree(tokenizer, "<<unk> and <<", "User: is a<<b\nAI: x<<y\n")

    raw_history = [Turn(question="is a<<b", answer="x<<y")]
    raw = prompt_of(tokenizer, job("<unk> and <<", raw_history, raw_text=True))
    assert raw.sequence.tokens.ids == ids_of_tree(tokenizer, "<unk> and <<", "User: is a<<b\nAI: x<<y\n")
    assert plain.sequence.tokens.ids != raw.sequence.tokens.ids


@pytest.mark.parametrize("question", ["a<b", "<foo_1>", "x <", "<a<b>"])
def test_raw_text_that_does_not_parse_is_rejected(tokenizer: Tokenizer, question: str) -> None:
    with pytest.raises(JobRejected) as error:
        prompt_of(tokenizer, job(question, raw_text=True))
    assert error.value.code == "invalid_request"
    assert prompt_of(tokenizer, job(question)).num_tokens > 0


def test_without_an_image_there_is_no_image_segment(tokenizer: Tokenizer) -> None:
    prompt = prompt_of(tokenizer, job(pixels=b""))
    tokens = prompt.sequence.tokens
    assert (prompt.num_image_tokens, tokens.image_bounds, tokens.num_segments) == (0, [], 7)
    assert tokenizer.unk_id not in tokens.ids
    assert prompt.sequence.predict_segments == [(6, 1)]


def test_prompts_with_and_without_images_share_a_batch(tokenizer: Tokenizer) -> None:
    prompts = [prompt_of(tokenizer, job(pixels=b"")), prompt_of(tokenizer, job("🐱 🐶 " * 3))]
    batch = pack_prompts(prompts, tokenizer)
    assert batch.lengths.tolist() == [prompt.num_tokens for prompt in prompts]
    assert batch.image_bounds[0] == []
    (start, end) = batch.image_bounds[1][0]
    assert batch.ids[1, start:end].tolist() == [tokenizer.unk_id] * NUM_IMAGE_TOKENS
    assert batch.predict_segments == [[(6, 1)], [(8, 1)]]


def test_the_oldest_whole_turns_are_dropped_until_the_conversation_fits(tokenizer: Tokenizer) -> None:
    history = [Turn(question=c * 3, answer=c * 5) for c in "defgh"]
    full = prompt_of(tokenizer, job(history=history)).sequence.full_length
    assert prompt_of(tokenizer, job(history=history, max_input_tokens=full)).dropped_turns == 0

    one_less = prompt_of(tokenizer, job(history=history, max_input_tokens=full - 1))
    assert one_less.dropped_turns == 1
    context = "".join(turn_text(turn.question, turn.answer) for turn in history[1:])
    assert one_less.sequence.tokens.ids == ids_of_tree(tokenizer, "what", context)

    empty = prompt_of(tokenizer, job()).sequence.full_length
    alone = prompt_of(tokenizer, job(history=history, max_input_tokens=empty))
    assert alone.dropped_turns == 5
    assert alone.sequence.tokens.ids == ids_of_tree(tokenizer, "what", "")


@pytest.mark.slow
@given(
    history=st.lists(st.tuples(st.text("ab <🐱\n", max_size=8), st.text("ab <🐱\n", max_size=8)), max_size=6),
    limit=st.integers(20, 120),
)
@settings(deadline=None, max_examples=80)
def test_as_few_turns_are_dropped_as_possible(tokenizer: Tokenizer, history: list[tuple[str, str]], limit: int) -> None:
    turns = [Turn(question=question, answer=escape(answer)) for question, answer in history]

    def full_length(dropped: int) -> int:
        return prompt_of(tokenizer, job(history=turns[dropped:])).sequence.full_length

    fitting = [dropped for dropped in range(len(turns) + 1) if full_length(dropped) <= limit]
    made = job(history=turns, max_input_tokens=limit)
    if fitting:
        prompt = prompt_of(tokenizer, made)
        assert prompt.dropped_turns == min(fitting)
        assert prompt.sequence.full_length == full_length(min(fitting))
    else:
        with pytest.raises(JobRejected, match=f"the question takes {full_length(len(turns))} tokens"):
            prompt_of(tokenizer, made)


def prompt_of_reference(tokenizer: Tokenizer, made: ChatJob) -> tuple[list[int], int]:
    """Ids and dropped turns, found by converting every tail of the conversation, the longest first."""
    for dropped in range(len(made.history) + 1):
        context = "".join(turn_text(escape(turn.question), turn.answer) for turn in made.history[dropped:])
        sequence = convert_chat(chat_tree(escape(made.question), context, NUM_IMAGE_TOKENS), tokenizer)
        if sequence.full_length <= made.generation.max_input_tokens:
            return sequence.tokens.ids, dropped
    raise AssertionError("the question alone is too long")


@pytest.mark.slow
@given(
    # Long words, unknown runs and single letters: from a tenth of a token to one token a character
    history=st.lists(
        st.tuples(st.text("a🐱<\n", max_size=60), st.sampled_from(["abcd" * 20, "猫" * 30, "🐱" * 400, "", "<<unk>>"])),
        max_size=12,
    ),
    question=st.text("ab <🐱\n", max_size=8),
    limit=st.integers(60, 250),
)
@settings(deadline=None, max_examples=150)
def test_ids_are_those_of_a_search_over_all_tails(
    tokenizer: Tokenizer, history: list[tuple[str, str]], question: str, limit: int
) -> None:
    turns = [Turn(question=asked, answer=escape(answer)) for asked, answer in history]
    made = job(question, turns, max_input_tokens=limit)
    prompt = prompt_of(tokenizer, made)
    assert (prompt.sequence.tokens.ids, prompt.dropped_turns) == prompt_of_reference(tokenizer, made)


class CountingTokenizer(Tokenizer):
    """Counts the characters that it splits."""

    num_chars = 0

    def pieces(self, text: str) -> list[Piece]:
        self.num_chars += len(text)
        return super().pieces(text)


@pytest.mark.parametrize("strict_length", [False, True])
def test_of_a_talk_that_is_far_too_long_little_is_read(strict_length: bool) -> None:
    tokenizer = CountingTokenizer.from_entries(SPECIAL + WORDS)
    history = [Turn(question="a" * 8192, answer="b")] * 197 + [Turn(question="c" * 500, answer="d")] * 3
    made = job(history=history, max_input_tokens=1200, strict_length=strict_length)
    if strict_length:
        with pytest.raises(JobRejected, match=r"the talk of 201 turns takes at least \d+ tokens, 5 of them") as error:
            prompt_of(tokenizer, made)
        assert error.value.code == "context_length_exceeded"
    else:
        assert prompt_of(tokenizer, made).dropped_turns == 198
    # The question, two turns that fit twice, a third that does not, and the frame around them
    assert tokenizer.num_chars < 2 * 2 * 520 + 520 + 200


def test_a_long_talk_of_few_tokens_is_kept_whole(tokenizer: Tokenizer) -> None:
    history = [Turn(question="🐱" * 500, answer="🐶" * 500)] * 5  # each run is one unknown word
    assert prompt_of(tokenizer, job(history=history, max_input_tokens=120)).dropped_turns == 0
    kept = prompt_of(tokenizer, job(history=history, max_input_tokens=120, strict_length=True))
    assert kept.num_tokens < 120


def test_a_broken_text_is_found_where_it_is_read(tokenizer: Tokenizer) -> None:
    broken, long = Turn(question="a <", answer="b"), Turn(question="c" * 100, answer="d")
    with pytest.raises(JobRejected) as error:
        prompt_of(tokenizer, job(history=[long, long, broken], max_input_tokens=50, raw_text=True))
    assert error.value.code == "invalid_request"
    prompt = prompt_of(tokenizer, job(history=[broken, long, long], max_input_tokens=50, raw_text=True))
    assert prompt.dropped_turns == 3


def test_strict_length_rejects_a_long_conversation_with_the_numbers(tokenizer: Tokenizer) -> None:
    history = [Turn(question="a", answer="b")] * 3
    full = prompt_of(tokenizer, job(history=history)).sequence.full_length
    made = job(history=history, max_input_tokens=full - 1, strict_length=True)
    with pytest.raises(JobRejected) as error:
        prompt_of(tokenizer, made)
    assert error.value.code == "context_length_exceeded"
    assert error.value.message == (
        f"the talk of 4 turns takes {full} tokens, 5 of them for the picture; at most {full - 1} are allowed"
    )
    fits = job(history=history, max_input_tokens=full, strict_length=True)
    assert prompt_of(tokenizer, fits).dropped_turns == 0


@pytest.mark.parametrize("strict_length", [False, True])
def test_a_question_that_alone_is_too_long_is_rejected_with_the_numbers(
    tokenizer: Tokenizer, strict_length: bool
) -> None:
    made = job("d" * 50, pixels=b"", max_input_tokens=40, strict_length=strict_length)
    full = prompt_of(tokenizer, job("d" * 50, pixels=b"")).sequence.full_length
    with pytest.raises(JobRejected) as error:
        prompt_of(tokenizer, made)
    assert error.value.code == "context_length_exceeded"
    assert error.value.message == f"the question takes {full} tokens; at most 40 are allowed"


def test_questions_are_folded_unless_raw_and_answers_never(tokenizer: Tokenizer) -> None:
    history = [Turn(question="IS IT A<B", answer="AB")]
    folded = build_prompt(job("WHAT", history), tokenizer, NUM_IMAGE_TOKENS, str.lower)
    assert folded.sequence.tokens.ids == ids_of_tree(tokenizer, "what", "User: is it a<<b\nAI: AB\n")
    raw = build_prompt(job("WHAT", history[:0], raw_text=True), tokenizer, NUM_IMAGE_TOKENS, str.lower)
    assert raw.sequence.tokens.ids == ids_of_tree(tokenizer, "WHAT", "")
