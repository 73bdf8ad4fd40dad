"""The reference's decoding as SPEC §12 describes it, written plainly: what a batching engine is compared with.

The prompt is read once for each beam, and projected to the vocabulary for nothing; keys and values are concatenated at
every step and reordered whole by the parents of beams; biases are built anew; penalties are applied by a loop.
One request at a time. Its tokens are those of the engine (tests/benchmarks/test_chat.py).
"""

from dataclasses import replace

import torch
from torch import Tensor

from models.engines.chat.search.beam_search import UNUSED_BEAM_SCORE, Sentence
from models.engines.chat.search.vocabulary import MASKED_LOGIT, AnswerVocabulary
from models.jobs import ChatGeneration
from models.networks.cpm_bee.answer_bias import bias_to_prompt
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.cpm_bee.position_bias import AttentionBias, prompt_bias


@torch.inference_mode()
def answer(llm: CPMBee, batch: PackedBatch, vocabulary: AnswerVocabulary, generation: ChatGeneration) -> list[int]:
    """Column ids of the best answer to a batch of one prompt of texts."""
    width, device = generation.num_beams, llm.embedding.weight.device
    tripled = repeated(batch, width)
    extension_rows = llm.extension_rows(batch.extension_ids, batch.extension_subs) if len(batch.extension_ids) else None
    caches = _prefill(llm, tripled, extension_rows)
    sentence = Sentence(generation, vocabulary.eos_id)
    scores = torch.tensor([0.0] + [UNUSED_BEAM_SCORE] * (width - 1), device=device)[:, None]
    fed = [[vocabulary.bos_id] for _ in range(width)]
    subs = [0] * width
    for iteration in range(generation.max_new_tokens):
        newest = torch.tensor([[ids[-1]] for ids in fed], device=device)
        hidden = llm.embed(newest, torch.tensor(subs, device=device)[:, None])  # (K, 1, D)
        bias = _step_bias(llm, tripled, vocabulary.segments[0], iteration)
        for layer, block in enumerate(llm.blocks):
            normed = block.attention_norm(hidden)
            queries, keys, values = block.attention.project(normed, normed)
            keys, values = (torch.cat(pair, dim=2) for pair in zip(caches[layer], (keys, values), strict=True))
            caches[layer] = keys, values
            hidden = block.finish(hidden, block.attention.attend(queries, keys, values, bias))
        logits = llm.logits(llm.output_norm(hidden), extension_rows)[:, 0].float()  # (K, V + E)
        _mask(logits, vocabulary)
        _penalise(logits, fed, generation.repetition_penalty)
        total = torch.log_softmax(logits / generation.temperature, dim=-1) + scores
        best, places = total.view(-1).topk(2 * width)
        candidates = [
            (score, *divmod(place, logits.shape[1]))
            for score, place in zip(best.tolist(), places.tolist(), strict=True)
        ]
        sentence.advance(candidates, iteration)
        if sentence.done_at is not None or iteration == generation.max_new_tokens - 1:
            break
        parents = [beam.parent for beam in sentence.beams]
        caches = [(keys[parents], values[parents]) for keys, values in caches]
        scores = torch.tensor([[beam.score] for beam in sentence.beams], device=device)
        chosen = [vocabulary.fed(beam.ids[-1]) for beam in sentence.beams]
        fed = [[*fed[parent], token] for parent, (token, _) in zip(parents, chosen, strict=True)]
        subs = [sub for _, sub in chosen]
    return sentence.hypotheses.best.ids


def repeated(batch: PackedBatch, width: int) -> PackedBatch:
    """The one row, once for each beam."""
    names = ("ids", "subs", "positions", "segments", "contexts", "num_segments", "segment_rel_offsets", "samples")
    names += ("spans", "lengths", "segment_rel")
    rows = {name: getattr(batch, name).repeat_interleave(width, dim=0) for name in names}
    return replace(batch, **rows, image_bounds=batch.image_bounds * width)


def _prefill(llm: CPMBee, batch: PackedBatch, extension_rows: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    hidden = llm.embed(batch.ids, batch.subs)
    bias = prompt_bias(llm.position_bias, batch)
    caches = []
    for block in llm.blocks:
        normed = block.attention_norm(hidden)
        queries, keys, values = block.attention.project(normed, normed)
        caches.append((keys, values))
        hidden = block.finish(hidden, block.attention.attend(queries, keys, values, bias))
    llm.logits(llm.output_norm(hidden), extension_rows)  # of the whole prompt, and read by nobody
    return caches


def _step_bias(llm: CPMBee, batch: PackedBatch, segment: int, iteration: int) -> AttentionBias:
    """(K, H, 1, L + iteration + 1) of the newest token of every beam."""
    to_prompt = bias_to_prompt(llm.position_bias, batch)[:, segment][:, :, None]  # (K, H, 1, L)
    distances = torch.arange(-iteration, 1, device=batch.ids.device)[None, None].expand(len(batch.ids), -1, -1)
    to_answer = llm.position_bias(torch.zeros_like(distances), distances)
    return AttentionBias(torch.cat([to_prompt, to_answer], dim=-1), blind=None)


def _mask(logits: Tensor, vocabulary: AnswerVocabulary) -> None:
    mask = vocabulary.column_mask(logits.device)
    logits[:, mask.columns[mask.blocked[0]]] = MASKED_LOGIT


def _penalise(logits: Tensor, fed: list[list[int]], penalty: float) -> None:
    for row, ids in enumerate(fed):
        for token in set(ids):
            logits[row, token] *= penalty if logits[row, token] < 0 else 1 / penalty
