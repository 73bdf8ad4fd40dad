"""CPM-Bee against the reference: embeddings, position buckets, full forward with its loss, prefill and decoding."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from models.checkpoints.loading import LoadedChat, load_chat
from models.engines.chat.prompt import chat_tree
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.answer_bias import DecodeStep
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.kv_cache import KVCache
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.packing import PackedBatch, pack_chat, pack_training
from models.networks.cpm_bee.position_bias import bucket_table, distance_buckets
from models.networks.vision.preprocess import normalise
from models.parity.fixtures import Fixtures
from models.parity.report import Report


@dataclass(frozen=True)
class Limits:
    """Differences allowed at most; in half precision the mean of the logits' says more (SPEC §13, §16)."""

    embedding: float
    hidden: float
    logits: float
    mean_logits: float | None = None


LIMITS = {
    torch.float32: Limits(embedding=1e-3, hidden=1e-3, logits=1e-3),
    torch.float16: Limits(embedding=0.01, hidden=0.05, logits=0.4, mean_logits=0.03),
    # Eight times coarser than float16.
    torch.bfloat16: Limits(embedding=0.08, hidden=0.4, logits=3.0, mean_logits=0.25),
}
LOSS_LIMIT = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # relative


def check_embeddings(fixtures: Fixtures, report: Report) -> None:
    """Ids with sub indices, extension rows and the projection to vocabulary and extensions (SPEC §4)."""
    expected = {name: tensor.to(fixtures.device) for name, tensor in fixtures.tensors("embedding.safetensors").items()}
    ids, subs = expected["ids"].long(), expected["subs"].long()
    pairs = expected["ext_ids"], expected["ext_subs"]
    limits = LIMITS[fixtures.dtype]
    llm = load_model(fixtures, fixtures.dtype).model.llm
    report.difference("embedding", llm.embed(ids, subs), expected["embedding_fp32"], limits.embedding)
    rows = llm.extension_rows(*pairs)
    report.difference("embedding extension rows", rows, expected["ext_table_fp32"], limits.embedding)
    logits = llm.logits(expected["proj_in"].to(fixtures.dtype), rows)
    report.difference("embedding projection", logits, expected["proj_logits_fp32"], limits.logits)

    half = load_half(fixtures).model.llm
    limit = LIMITS[torch.float16].embedding
    report.difference("embedding float16", half.embed(ids, subs), expected["embedding_fp16"], limit)
    half_rows = half.extension_rows(*pairs)
    report.difference("embedding float16 extension rows", half_rows, expected["ext_table_fp16"], limit)


def check_position_buckets(fixtures: Fixtures, report: Report) -> None:
    """Buckets of distances at the published sizes and at those of the folder (SPEC §4.1)."""
    expected = fixtures.json("position_buckets.json")
    published = expected["published"]
    table = bucket_table(published["num_buckets"], published["max_distance"]).to(fixtures.device)
    backwards = distance_buckets(-torch.arange(published["max_distance"] + 1, device=fixtures.device), table)
    first = [int((backwards >= bucket).nonzero()[0]) for bucket in range(1, published["num_buckets"] // 2)]
    report.exact("position_buckets published first_distance", first, published["first_distance"])
    behind, ahead = distance_buckets(torch.tensor([-1, 1], device=fixtures.device), table).tolist()
    report.exact("position_buckets published positive_offset", ahead - behind, published["positive_offset"])

    here = expected["here"]
    start, end = here["rel"]
    distances = torch.arange(start, end + 1, device=fixtures.device)
    table = bucket_table(here["num_buckets"], here["max_distance"]).to(fixtures.device)
    report.exact(f"position_buckets {start}..{end}", distance_buckets(distances, table).tolist(), here["bucket"])


def check_full_forward(fixtures: Fixtures, report: Report) -> None:
    """A batch packed for training: embeddings, every layer, hidden states, logits and loss (SPEC §4, §9)."""
    described, expected = fixtures.json("forward.json"), fixtures.tensors("forward.safetensors")
    loaded, limits = load_model(fixtures, fixtures.dtype), LIMITS[fixtures.dtype]
    llm = loaded.model.llm
    samples = [sample["data"] for sample in described["samples"]]
    batch, targets = pack_training(samples, loaded.tokenizer, described["max_len"], duplicates=True)
    batch, targets = batch.to(fixtures.device), targets.to(fixtures.device)

    images = [sample["image"] for sample in described["samples"]]
    embeds = loaded.model.embed_prompt(batch, image_embeddings_of(fixtures, loaded.model, images))
    report.difference("forward inputs_embeds", embeds, expected["inputs_embeds"], limits.hidden)

    outputs: list[Tensor] = []
    hidden = llm(batch, expected["inputs_embeds"].to(fixtures.device, fixtures.dtype), outputs)
    for layer, output in enumerate(outputs):
        name = f"layer{layer}_sample0"
        report.difference(f"forward {name}", output[0], expected[name], limits.hidden, relative=True)
    report.difference("forward hidden_states", hidden, expected["hidden_states"], limits.hidden)
    extension_rows = llm.extension_rows(batch.extension_ids, batch.extension_subs)
    logits = llm.logits(hidden.flatten(0, 1)[expected["logit_rows"].to(fixtures.device)], extension_rows)
    compare_logits(report, "forward logits", logits, expected["logits"], limits)
    loss = llm.loss(hidden, targets, extension_rows).item()
    report.number("forward loss", loss, described["loss"], LOSS_LIMIT[fixtures.dtype])


def check_incremental(fixtures: Fixtures, report: Report) -> None:
    """Prefill and forced decoding; the folded model and the full forward have to agree with it (SPEC §4.2)."""
    expected, limits = fixtures.tensors("incremental.safetensors"), LIMITS[fixtures.dtype]
    loaded = load_model(fixtures, fixtures.dtype)
    llm, folded = loaded.model.llm, load_model(fixtures, fixtures.dtype).model.llm
    fold_scalings(folded)
    for index, case in enumerate(fixtures.json("incremental.json")):
        name, stored = f"incremental[{index}]", _of_case(expected, index)
        batch = pack_case(fixtures, loaded, case)
        report.exact(f"{name} prompt_length", batch.ids.shape[1], case["prompt_length"])
        report.exact(f"{name} answer_segment", batch.predict_segments[0][0][0], case["answer_segment"])
        report.exact(f"{name} ext_table_ids", batch.extension_ids.tolist(), case["ext_table_ids"])
        report.exact(f"{name} ext_table_sub", batch.extension_subs.tolist(), case["ext_table_sub"])
        embeds = loaded.model.embed_prompt(batch, image_embeddings_of(fixtures, loaded.model, [case["image"]]))
        report.difference(f"{name} inputs_embeds", embeds[0], stored["inputs_embeds"], limits.hidden)

        embeds = stored["inputs_embeds"].to(fixtures.device, fixtures.dtype)[None]
        decoded = decode_forced(llm, batch, embeds, case)
        compare_prefill(report, name, llm, decoded, stored, limits)
        report.difference(f"{name} step_hidden", decoded.step_hidden, stored["step_hidden"], limits.hidden)
        compare_logits(report, f"{name} step_logits", decoded.step_logits, stored["step_logits"], limits)
        other = decode_forced(folded, batch, embeds, case).step_logits
        compare_logits(report, f"{name} step_logits, folded", other, stored["step_logits"], limits)
        full = full_forward_logits(llm, batch, embeds, case)
        compare_logits(report, f"{name} full forward against steps", full, decoded.step_logits, limits)


def check_batch(fixtures: Fixtures, report: Report) -> None:
    """Two prompts padded on the left: each row's own picture, and hidden states with those of the padding (SPEC §7)."""
    described, expected = fixtures.json("batch.json"), fixtures.tensors("batch.safetensors")
    prompts = fixtures.json("data_to_id.json")["chat"]
    loaded, limits = load_model(fixtures, fixtures.dtype), LIMITS[fixtures.dtype]
    indices = described["prompt_indices"]
    batch = pack_chat([prompts[index]["data"] for index in indices], loaded.tokenizer).to(fixtures.device)
    image_of = images_of_prompts(fixtures)
    if set(indices) <= image_of.keys():
        embeddings = image_embeddings_of(fixtures, loaded.model, [image_of[index] for index in indices])
        embeds = loaded.model.embed_prompt(batch, embeddings)
        report.difference("batch inputs_embeds", embeds, expected["inputs_embeds"], limits.hidden)
    else:
        report.note("batch inputs_embeds", "needs beam.json")
    embeds = expected["inputs_embeds"].to(fixtures.device, fixtures.dtype)
    hidden, _ = loaded.model.llm.prefill(batch, embeds, num_beams=1, max_new_tokens=1)
    report.difference("batch prefill_hidden", hidden, expected["prefill_hidden"], limits.hidden)


def check_half(fixtures: Fixtures, report: Report) -> None:
    """The incremental cases in float16 against the reference in float16, folded and not (SPEC §16)."""
    expected, limits = fixtures.tensors("half.safetensors"), LIMITS[torch.float16]
    loaded = load_half(fixtures)
    llm, folded = loaded.model.llm, load_half(fixtures).model.llm
    fold_scalings(folded)
    for index, case in enumerate(fixtures.json("incremental.json")):
        stored = _of_case(expected, index)
        batch = pack_case(fixtures, loaded, case)
        embeds = loaded.model.embed_prompt(batch, [expected["mapped"][case["image"]].to(fixtures.device)])
        for form, model in (("", llm), (", folded", folded)):
            decoded = decode_forced(model, batch, embeds, case)
            rows = stored["prefill_hidden"]
            name = f"half[{index}] prefill_hidden{form}"
            report.difference(name, decoded.prefill_hidden[-len(rows) :], rows, limits.hidden)
            compare_logits(
                report, f"half[{index}] step_logits{form}", decoded.step_logits, stored["step_logits"], limits
            )


def load_model(fixtures: Fixtures, dtype: torch.dtype) -> LoadedChat:
    """The folder's Chat checkpoint, whichever of its two files is there."""
    names = ("chat_checkpoint.safetensors", "chat_checkpoint.pt")
    name = next((name for name in names if fixtures.has(name)), names[0])
    return load_chat(fixtures.path(name), device=fixtures.device, dtype=dtype)


def load_half(fixtures: Fixtures) -> LoadedChat:
    """In float16 as the reference's runs in float16 were configured: with rotary tables in float16 (SPEC §4)."""
    loaded = load_model(fixtures, torch.float16)
    loaded.model.llm.config = replace(loaded.model.llm.config, half=True)
    return loaded


def image_embeddings_of(fixtures: Fixtures, model: ChatModel, images: Sequence[int]) -> list[Tensor]:
    """(Q, D) of the folder's pictures with these numbers."""
    pixels = fixtures.tensors("preprocess.safetensors")["resized_uint8"][list(images)].to(fixtures.device)
    return list(model.image_embeddings(normalise(pixels).to(fixtures.dtype)))


def pack_case(fixtures: Fixtures, loaded: LoadedChat, case: Mapping[str, Any]) -> PackedBatch:
    """The prompt of an incremental case, on the fixtures' device."""
    tree = chat_tree(case["question"], case["context"], loaded.config.num_query_tokens)
    return pack_chat([tree], loaded.tokenizer).to(fixtures.device)


def images_of_prompts(fixtures: Fixtures) -> dict[int, int]:
    """Number of a prompt -> number of its picture, which only the files that decode prompts tell."""
    rows = fixtures.json("incremental.json") if fixtures.has("incremental.json") else []
    if fixtures.has("beam.json"):
        rows = rows + [row for searches in fixtures.json("beam.json").values() for row in searches["rows"]]
    return {row["prompt_index"]: row["image"] for row in rows}


@dataclass
class Decoded:
    """One prompt and T forced tokens."""

    prefill_hidden: Tensor  # (L, D)
    step_hidden: Tensor  # (T, D)
    step_logits: Tensor  # (T, V + E)
    extension_rows: Tensor  # (E, D)
    cache: KVCache


def decode_forced(llm: CPMBee, batch: PackedBatch, embeds: Tensor, case: Mapping[str, Any]) -> Decoded:
    """Prefills one prompt with `embeds` (1, L, D) and feeds the case's tokens one by one."""
    num_tokens = len(case["forced_tokens"])
    hidden, cache = llm.prefill(batch, embeds, num_beams=1, max_new_tokens=num_tokens)
    answer = answer_tokens(case, batch.ids.device)
    steps = [DecodeStep(**{name: tokens[:, [i]] for name, tokens in answer.items()}) for i in range(num_tokens)]
    step_hidden = torch.cat([llm.decode_step(step, cache) for step in steps])[:, 0]  # (T, D)
    extension_rows = llm.extension_rows(batch.extension_ids, batch.extension_subs)
    return Decoded(hidden[0], step_hidden, llm.logits(step_hidden, extension_rows), extension_rows, cache)


def answer_tokens(case: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """The forced tokens as fields of a `DecodeStep`, (1, T) each."""
    ids, subs = torch.tensor(case["forced_tokens"], device=device).T[:, None]  # (1, T) both
    positions = torch.arange(ids.shape[1], device=device)[None]
    segments = torch.full_like(ids, case["answer_segment"])
    return {"ids": ids, "subs": subs, "positions": positions, "segments": segments}


def full_forward_logits(llm: CPMBee, batch: PackedBatch, embeds: Tensor, case: Mapping[str, Any]) -> Tensor:
    """Logits (T, V + E) of the forced tokens in one full forward, flagged as an answer."""
    answer = answer_tokens(case, batch.ids.device)
    num_tokens = answer["ids"].shape[1]
    answer["contexts"] = torch.zeros_like(answer["ids"])
    for name in ("num_segments", "segment_rel_offsets", "samples", "spans"):  # as the last prompt token
        answer[name] = getattr(batch, name)[:, -1:].expand(-1, num_tokens)
    joined = {name: torch.cat([getattr(batch, name), tokens], dim=1) for name, tokens in answer.items()}
    whole = replace(batch, **joined, lengths=batch.lengths + num_tokens, padding="right")  # type: ignore[arg-type]
    answer_embeds = llm.embed(answer["ids"], answer["subs"])
    hidden = llm(whole, torch.cat([embeds, answer_embeds], dim=1))
    extension_rows = llm.extension_rows(batch.extension_ids, batch.extension_subs)
    return llm.logits(hidden[0, -num_tokens:], extension_rows)


def compare_prefill(
    report: Report, name: str, llm: CPMBee, decoded: Decoded, stored: Mapping[str, Tensor], limits: Limits
) -> None:
    """Hidden states of the prompt (of a long one the last rows are stored), its last logits, and cached states."""
    rows = stored["prefill_hidden"]
    report.difference(f"{name} prefill_hidden", decoded.prefill_hidden[-len(rows) :], rows, limits.hidden)
    last = llm.logits(decoded.prefill_hidden[-1], decoded.extension_rows)
    compare_logits(report, f"{name} prefill_last_logits", last, stored["prefill_last_logits"], limits)
    length = decoded.cache.prompt_length
    keys, values = decoded.cache.keys[0, 0, :, :length], decoded.cache.values[-1, 0, :, :length]  # (H, L, Dh)
    report.difference(f"{name} layer0_key_cache", keys, stored["layer0_key_cache"], limits.hidden)
    report.difference(f"{name} last_layer_value_cache", values, stored["last_layer_value_cache"], limits.hidden)


def compare_logits(report: Report, name: str, got: Tensor, expected: Tensor, limits: Limits) -> None:
    report.difference(name, got, expected, limits.logits)
    if limits.mean_logits is not None and got.shape == expected.shape:
        report.mean_difference(f"{name}, mean", got, expected, limits.mean_logits)


def _of_case(tensors: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    prefix = f"case{index}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


CHECKS: dict[str, Callable[[Fixtures, Report], None]] = {
    "embedding.safetensors": check_embeddings,
    "position_buckets.json": check_position_buckets,
    "forward.safetensors": check_full_forward,
    "incremental.safetensors": check_incremental,
    "batch.safetensors": check_batch,
    "half.safetensors": check_half,
}
COVERS: dict[str, tuple[str, ...]] = {
    "embedding.safetensors": ("embedding.safetensors",),
    "position_buckets.json": ("position_buckets.json",),
    "forward.safetensors": ("forward.json", "forward.safetensors", "preprocess.safetensors"),
    "incremental.safetensors": ("incremental.json", "incremental.safetensors", "preprocess.safetensors"),
    "batch.safetensors": ("batch.json", "batch.safetensors", "data_to_id.json", "preprocess.safetensors"),
    "half.safetensors": ("half.safetensors", "incremental.json"),
}
