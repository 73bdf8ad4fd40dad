"""From a paint job to what CPM-Bee reads: its negative prompt and its prompt (SPEC §3.2, §8.1)."""

from models.engines.text_folding import Fold
from models.jobs import JobRejected, PaintJob
from models.networks.cpm_bee.data_tree import DataTree
from models.networks.cpm_bee.packing import PackedBatch, pack_paint
from models.networks.cpm_bee.tokenizer import Tokenizer, escape

NEGATIVE_ROW, PROMPT_ROW = 0, 1  # the order of classifier-free guidance's batch (SPEC §8.2)


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


def _quoting(job: PaintJob, fold: Fold) -> Fold:
    return str if job.raw_text else lambda text: escape(fold(text))
