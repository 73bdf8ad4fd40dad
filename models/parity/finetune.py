"""One fine-tuning step of Chat against the reference: its batch, loss, logits and gradients (SPEC §9)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.checkpoints.companion_files import VOCABULARY_FILE
from models.checkpoints.published_names import published_name
from models.datasets.examples import Conversation, Round
from models.datasets.llava import rounds_of
from models.networks.cpm_bee.packing import PackedBatch
from models.parity.fixtures import Fixtures
from models.parity.language import load_model
from models.parity.report import Report
from models.parity.vision import resize
from models.training.chat.task import ChatSettings, ChatTask, answer_logits
from models.training.sources import Listed

LOSS_LIMIT = 1e-5  # relative
LOGITS_LIMIT = 1e-3
GRADIENT_LIMIT = 1e-4  # relative to the largest entry of each
NORM_LIMIT = 1e-4
NORM_FLOOR = 1e-3  # of the largest norm: smaller ones are rounding to a good part


def check_step(fixtures: Fixtures, report: Report) -> None:
    """The trainer's own step: the first round of every conversation, duplicate extension columns as in the original.

    Both are the original's faults (SPEC §11.15, §11.16).
    """
    if not fixtures.is_full_precision:
        report.note("finetune", "float32 only")
        return
    described, expected = fixtures.json("finetune.json"), fixtures.tensors("finetune.safetensors")
    loaded = load_model(fixtures, torch.float32)
    pixels = resize(fixtures, f"images/image{described['image']}.png", loaded.config.image_size_px)
    conversations = [Conversation(pixels.cpu().numpy(), first_round(turns)) for turns in described["conversations"]]
    vocabulary = fixtures.path(VOCABULARY_FILE)
    task = ChatTask(loaded.model, loaded.tokenizer, vocabulary, Listed(conversations), ChatSettings())
    batch = task.collate_conversations(conversations, duplicates=True, length=described["max_len"])
    (group,) = batch.groups
    check_batch(report, group.rows, group.targets, expected)

    batch = batch.to(torch.device(fixtures.device))
    loss, weight = task.loss(batch)
    (loss / weight).backward()
    report.number("finetune loss", (loss / weight).item(), described["loss"], LOSS_LIMIT)
    logits, _ = answer_logits(loaded.model, batch)
    report.difference("finetune logits_at_targets", logits, expected["logits_at_targets"], LOGITS_LIMIT)
    named = loaded.model.named_parameters()
    check_gradients(report, {published_name("chat", name): tensor for name, tensor in named}, described, expected)


def first_round(turns: Sequence[dict[str, str]]) -> tuple[Round, ...]:
    """The first question and its answer, which is all that the reference learns of a conversation."""
    return tuple(rounds_of(turns[:2]))


def check_batch(report: Report, batch: PackedBatch, targets: Tensor, expected: dict[str, Tensor]) -> None:
    """Every integer of the collated batch."""
    arrays = {
        "input_ids": batch.ids,
        "input_id_subs": batch.subs,
        "context": batch.contexts,
        "segment_ids": batch.segments,
        "num_segments": batch.num_segments,
        "segment_rel_offset": batch.segment_rel_offsets,
        "sample_ids": batch.samples,
        "span": batch.spans,
        "length": batch.lengths,
        "ext_table_ids": batch.extension_ids,
        "ext_table_sub": batch.extension_subs,
        "image_bound": torch.tensor(batch.image_bounds),
        "target": targets,
    }
    for name, got in arrays.items():
        report.exact(f"finetune {name}", got.tolist(), expected[name].tolist())
    width = min(batch.segment_rel.shape[1], expected["segment_rel"].shape[1])  # as wide as each is padded
    relations = batch.segment_rel[:, :width].tolist()
    report.exact("finetune segment_rel", relations, expected["segment_rel"][:, :width].tolist())


def check_gradients(
    report: Report, parameters: dict[str, Tensor], described: dict[str, Any], expected: dict[str, Tensor]
) -> None:
    """The norm of every gradient, whole ones where they are stored, and none where there is none."""
    # A module that the answer does not depend on has gradient zero in the original and none here.
    gradients = {name: tensor.grad for name, tensor in parameters.items() if tensor.grad is not None}
    norms = {name: gradient.norm().item() for name, gradient in gradients.items()}
    stored = {name: norm for name, norm in described["grad_norm"].items() if norm > 0}
    report.exact(
        "finetune parameters with a gradient", sorted(name for name in norms if norms[name] > 0), sorted(stored)
    )
    report.exact("finetune frozen", sorted(set(gradients) & set(described["parameters_without_gradient"])), [])
    floor = max(stored.values()) * NORM_FLOOR
    off = torch.tensor([(norms.get(name, 0.0) - norm) / max(norm, floor) for name, norm in stored.items()])
    report.difference(f"finetune {len(stored)} gradient norms, relative", off, torch.zeros_like(off), NORM_LIMIT)
    for name, gradient in expected.items():
        if name.startswith("grad."):
            got = gradients[name.removeprefix("grad.")]
            report.difference(f"finetune {name}", got, gradient, GRADIENT_LIMIT, relative=True)


CHECKS: dict[str, Callable[[Fixtures, Report], None]] = {"finetune.safetensors": check_step}
COVERS: dict[str, tuple[str, ...]] = {"finetune.safetensors": ("finetune.json", "finetune.safetensors")}
