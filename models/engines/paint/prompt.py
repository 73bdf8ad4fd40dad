"""From a paint job to what CPM-Bee reads: its negative prompt and its prompt (SPEC §3.2, §8.1)."""

from models.engines.text_folding import Fold
from models.jobs import JobRejected, PaintJob
from models.networks.cpm_bee.data_tree import UNKNOWN_FAMILY, DataTree, family_of
from models.networks.cpm_bee.packing import PackedBatch, pack_paint
from models.networks.cpm_bee.tokenizer import Piece, Tokenizer, escape

NEGATIVE_ROW, PROMPT_ROW = 0, 1  # the order of classifier-free guidance's batch (SPEC §8.2)
MAX_UNKNOWN_WORDS = 16
MAX_UNKNOWN_WORD_CHARS = 64


def paint_tree(text: str) -> DataTree:
    """The data tree of one text in escaped form."""
    return {"caption": text, "objects": ""}


def pack_job(job: PaintJob, tokenizer: Tokenizer, fold: Fold = str) -> PackedBatch:
    """Both texts as a batch of two, padded on the right to the longer; folded and escaped unless `raw_text`.

    Args:
        fold: spells a text as the checkpoint's training did.

    Raises:
        JobRejected: `invalid_request` if a raw text does not parse.
    """
    quote = _quoting(job, fold)
    try:
        return pack_paint([paint_tree(quote(text)) for text in (job.negative_prompt, job.prompt)], tokenizer)
    except ValueError as error:
        raise JobRejected("invalid_request", f"prompt or negative prompt: {error}") from error


def unknown_words(job: PaintJob, tokenizer: Tokenizer, fold: Fold = str) -> list[str]:
    """What the vocabulary has no token for, of the prompt and then of the negative prompt, as it was written.

    Each once, the first `MAX_UNKNOWN_WORDS`, cut to `MAX_UNKNOWN_WORD_CHARS`.

    Args:
        fold: as for `pack_job`, of whose texts this is.

    Raises:
        JobRejected: `unknown_words` where nothing of the prompt is known.
    """
    quote = _quoting(job, fold)
    pieces = tokenizer.pieces(quote(job.prompt))
    if not any(map(_says_something, pieces)):
        raise JobRejected(
            "unknown_words",
            f"prompt: the model's vocabulary has a token for none of it, got {job.prompt[:MAX_UNKNOWN_WORD_CHARS]!r}; "
            "at least one English or Chinese word is needed",
        )
    pieces += tokenizer.pieces(quote(job.negative_prompt))
    unknown = dict.fromkeys(piece.text[:MAX_UNKNOWN_WORD_CHARS] for piece in pieces if piece.is_unknown)
    return list(unknown)[:MAX_UNKNOWN_WORDS]


def _quoting(job: PaintJob, fold: Fold) -> Fold:
    return str if job.raw_text else lambda text: escape(fold(text))


def _says_something(piece: Piece) -> bool:
    if piece.is_special:
        return family_of(piece.text) != UNKNOWN_FAMILY
    return not piece.is_unknown and not piece.text.isspace()
