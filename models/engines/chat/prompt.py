"""From a chat job to what CPM-Bee reads: image placeholders, the conversation so far, the question (SPEC §3.1, §6)."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.engines.text_folding import Fold
from models.jobs import ChatJob, JobRejected
from models.networks.cpm_bee.data_tree import ANSWER_KEY, IMAGE_KEY, UNKNOWN_FAMILY, DataTree
from models.networks.cpm_bee.packing import ChatSequence, PackedBatch, collate_chat, convert_chat
from models.networks.cpm_bee.tokenizer import Tokenizer, escape

_READ_AT_ONCE_CHARS = 4  # for each token allowed: a talk of no more text is converted without counting its turns first


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


def build_prompt(job: ChatJob, tokenizer: Tokenizer, num_image_tokens: int, fold: Fold = str) -> ChatPrompt:
    """Convert a job, dropping its oldest turns where the conversation exceeds `max_input_tokens` (SPEC §6, §11.4).

    User text is folded and escaped unless `raw_text`; answers in the history are escaped already (SPEC §11.1, §11.2).
    Others' jobs stand still meanwhile: of a conversation that is far too long, no turn is read beyond the first that
    does not fit.

    Args:
        num_image_tokens: placeholders of a picture; used only if the job has one.
        fold: spells a text as the checkpoint's training did.

    Raises:
        JobRejected: `context_length_exceeded` if the question alone is too long, or under `strict_length` the whole
            conversation; `invalid_request` if a text that was read does not parse.
    """
    quote: Fold = str if job.raw_text else lambda text: escape(fold(text))
    num_image_tokens = num_image_tokens if job.has_image else 0
    limit = job.generation.max_input_tokens
    turns = [turn_text(quote(turn.question), turn.answer) for turn in job.history]

    def convert(kept: Sequence[str]) -> ChatSequence:
        return convert_chat(chat_tree(quote(job.question), "".join(kept), num_image_tokens), tokenizer)

    try:
        sequence: ChatSequence | None = None
        kept: Sequence[str] = turns
        if sum(map(len, turns)) <= limit * _READ_AT_ONCE_CHARS:
            sequence = convert(turns)
            if sequence.full_length > limit and job.strict_length:
                raise _too_long(job, str(sequence.full_length), num_image_tokens)
        if sequence is None or sequence.full_length > limit:
            alone = convert([]).full_length
            if alone > limit:
                raise _too_long(job, str(alone), num_image_tokens)
            kept, num_tokens = _newest_turns(turns, limit - alone, tokenizer)
            if job.strict_length and len(kept) < len(turns):
                raise _too_long(job, f"at least {alone + num_tokens}", num_image_tokens)
            sequence = convert(kept)
    except ValueError as error:
        raise JobRejected("invalid_request", f"text of the talk: {error}") from error
    return ChatPrompt(sequence, num_image_tokens, len(turns) - len(kept))


def pack_prompts(prompts: Sequence[ChatPrompt], tokenizer: Tokenizer) -> PackedBatch:
    """Prompts answered together, padded on the left."""
    return collate_chat([prompt.sequence for prompt in prompts], tokenizer)


def _newest_turns(turns: Sequence[str], room_tokens: int, tokenizer: Tokenizer) -> tuple[Sequence[str], int]:
    """The longest tail of the turns that takes at most `room_tokens`, and the tokens of all turns that were read."""
    num_tokens = 0
    # A turn ends with a newline, which is always a token of its own, so the turns' tokens add up.
    for num_read, turn in enumerate(reversed(turns)):
        num_tokens += len(tokenizer.pieces(turn))
        if num_tokens > room_tokens:
            return turns[len(turns) - num_read :], num_tokens
    return turns, num_tokens


def _too_long(job: ChatJob, num_tokens: str, num_image_tokens: int) -> JobRejected:
    subject = f"the talk of {len(job.history) + 1} turns" if job.strict_length and job.history else "the question"
    image = f", {num_image_tokens} of them for the picture" if num_image_tokens else ""
    limit = job.generation.max_input_tokens
    message = f"{subject} takes {num_tokens} tokens{image}; at most {limit} are allowed"
    return JobRejected("context_length_exceeded", message)
