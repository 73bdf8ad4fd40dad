"""From a chat job to what CPM-Bee reads: image placeholders, the conversation so far, the question (SPEC §3.1, §6)."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.jobs import ChatJob, JobRejected
from models.networks.cpm_bee.data_tree import ANSWER_KEY, IMAGE_KEY, UNKNOWN_FAMILY, DataTree
from models.networks.cpm_bee.packing import ChatSequence, PackedBatch, PromptTooLong, collate_chat, convert_chat
from models.networks.cpm_bee.tokenizer import Tokenizer, escape


@dataclass(frozen=True)
class ChatPrompt:
    """One job's prompt, and what had to be left out of it."""

    sequence: ChatSequence
    num_image_tokens: int  # 0 without an image
    dropped_turns: int  # oldest turns that did not fit

    @property
    def num_tokens(self) -> int:
        """Tokens that the model reads, placeholders included, the answer leaf not."""
        return len(self.sequence.tokens)


def chat_tree(question: str, context: str, num_image_tokens: int) -> DataTree:
    """The data tree of one question; texts in escaped form, `context` the earlier turns (SPEC §3.1).

    Without an image (0 tokens) there is no image key: an empty one would be a picture without content.
    """
    image = {IMAGE_KEY: UNKNOWN_FAMILY * num_image_tokens} if num_image_tokens else {}
    return {**image, "context": context, "question": question, ANSWER_KEY: ""}


def turn_text(question: str, answer: str) -> str:
    """A finished turn as the context holds it; both texts in escaped form."""
    return f"User: {question}\nAI: {answer}\n"


def build_prompt(job: ChatJob, tokenizer: Tokenizer, num_image_tokens: int) -> ChatPrompt:
    """Convert a job, dropping its oldest turns where the conversation exceeds `max_input_tokens` (SPEC §6, §11.4).

    User text is escaped unless `raw_text`; answers in the history already are (SPEC §11.1, §11.2).

    Args:
        num_image_tokens: placeholders of a picture; used only if the job has one.

    Raises:
        JobRejected: `context_length_exceeded` if the question alone is too long, or under `strict_length` the whole
            conversation; `invalid_request` if a text does not parse.
    """
    quote = str if job.raw_text else escape
    num_image_tokens = num_image_tokens if job.has_image else 0
    limit = job.generation.max_input_tokens
    turns = [turn_text(quote(turn.question), turn.answer) for turn in job.history]
    dropped = 0
    try:
        sequence = convert_chat(chat_tree(quote(job.question), "".join(turns), num_image_tokens), tokenizer)
        if sequence.full_length > limit:
            if job.strict_length:
                raise PromptTooLong(sequence.full_length, limit)
            dropped = _turns_to_drop(turns, sequence.full_length - limit, tokenizer)
            context = "".join(turns[dropped:])
            sequence = convert_chat(chat_tree(quote(job.question), context, num_image_tokens), tokenizer, limit)
    except PromptTooLong as error:
        subject = f"the talk of {len(turns) + 1} turns" if job.strict_length and turns else "the question"
        image = f", {num_image_tokens} of them for the picture" if num_image_tokens else ""
        raise JobRejected(
            "context_length_exceeded",
            f"{subject} takes {error.num_tokens} tokens{image}; at most {error.max_tokens} are allowed",
        ) from error
    except ValueError as error:
        raise JobRejected("invalid_request", f"text of the talk: {error}") from error
    return ChatPrompt(sequence, num_image_tokens, dropped)


def pack_prompts(prompts: Sequence[ChatPrompt], tokenizer: Tokenizer) -> PackedBatch:
    """Prompts answered together, padded on the left."""
    return collate_chat([prompt.sequence for prompt in prompts], tokenizer)


def _turns_to_drop(turns: Sequence[str], excess_tokens: int, tokenizer: Tokenizer) -> int:
    """How many of the oldest turns hold at least `excess_tokens`; all of them if there are not as many."""
    dropped = 0
    # A turn ends with a newline, which is always a token of its own, so the turns' tokens add up.
    while excess_tokens > 0 and dropped < len(turns):
        excess_tokens -= len(tokenizer.pieces(turns[dropped]))
        dropped += 1
    return dropped
