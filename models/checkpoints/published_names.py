"""The published parameter names and ours; they stand here and nowhere else.

Upstream names become the field's: `vpm` is vision_encoder, `mapping` projector, `query` query_tokens, `trans_block`
prompt_adapter.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from models.checkpoints.tensor_files import CheckpointError

Kind = Literal["chat", "paint"]
_NAMED_AT_MOST = 10


def _llm_names() -> dict[str, str]:
    layer, ours = "llm.encoder.layers.{i}.", "llm.layers.{i}."
    return {
        "llm.input_embedding.weight": "llm.embedding.weight",
        "llm.position_bias.relative_attention_bias": "llm.position_bias.weight",
        "llm.encoder.output_layernorm.weight": "llm.output_norm.weight",
        layer + "self_att.layernorm_before_attention.weight": ours + "attention_norm.weight",
        layer + "self_att.self_attention.project_q.weight": ours + "attention.query.weight",
        layer + "self_att.self_attention.project_k.weight": ours + "attention.key.weight",
        layer + "self_att.self_attention.project_v.weight": ours + "attention.value.weight",
        layer + "self_att.self_attention.attention_out.weight": ours + "attention.output.weight",
        layer + "ffn.layernorm_before_ffn.weight": ours + "feed_forward_norm.weight",
        layer + "ffn.ffn.w_in.w_0.weight": ours + "feed_forward.gate.weight",
        layer + "ffn.ffn.w_in.w_1.weight": ours + "feed_forward.up.weight",
        layer + "ffn.ffn.w_out.weight": ours + "feed_forward.down.weight",
    }


def _vision_names() -> dict[str, str]:
    layer, ours = "vpm.beit3.encoder.layers.{i}.", "vision_encoder.layers.{i}."
    names = {
        "vpm.beit3.vision_embed.proj.weight": "vision_encoder.patch_embedding.weight",
        "vpm.beit3.vision_embed.proj.bias": "vision_encoder.patch_embedding.bias",
        "vpm.beit3.vision_embed.cls_token": "vision_encoder.class_token",
        "vpm.beit3.encoder.embed_positions.A.weight": "vision_encoder.image_positions",
        "vpm.beit3.encoder.embed_positions.B.weight": "vision_encoder.query_positions",
    }
    for branch, token in (("A", "image"), ("B", "query")):
        modules = {
            f"vpm.beit3.encoder.layer_norm.{branch}": f"vision_encoder.{token}_norm",
            f"{layer}self_attn_layer_norm.{branch}": f"{ours}{token}_expert.attention_norm",
            f"{layer}self_attn.q_proj.{branch}": f"{ours}{token}_expert.attention.query",
            f"{layer}self_attn.k_proj.{branch}": f"{ours}{token}_expert.attention.key",
            f"{layer}self_attn.v_proj.{branch}": f"{ours}{token}_expert.attention.value",
            f"{layer}self_attn.inner_attn_ln.{branch}": f"{ours}{token}_expert.attention.output_norm",
            f"{layer}self_attn.out_proj.{branch}": f"{ours}{token}_expert.attention.output",
            f"{layer}final_layer_norm.{branch}": f"{ours}{token}_expert.feed_forward_norm",
            f"{layer}ffn.{branch}.fc1": f"{ours}{token}_expert.feed_forward.up",
            f"{layer}ffn.{branch}.ffn_layernorm": f"{ours}{token}_expert.feed_forward.norm",
            f"{layer}ffn.{branch}.fc2": f"{ours}{token}_expert.feed_forward.down",
        }
        for published, module in modules.items():
            names |= {f"{published}.{leaf}": f"{module}.{leaf}" for leaf in ("weight", "bias")}
    return names


# Published name -> ours; {i} is a layer's number. The UNet's names are those of diffusers on both sides.
NAMES: dict[Kind, dict[str, str]] = {
    "chat": {
        **_llm_names(),
        **_vision_names(),
        "query": "query_tokens",
        **{f"mapping.{i}.{leaf}": f"projector.{i}.{leaf}" for i in (0, 2) for leaf in ("weight", "bias")},
    },
    "paint": {
        **_llm_names(),
        "trans_block.w_out_res.weight": "prompt_adapter.linear.weight",
        "trans_block.layernorm.weight": "prompt_adapter.norm.weight",
        "trans_block.layernorm.bias": "prompt_adapter.norm.bias",
    },
}
# Dropped on purpose: used in training at most (SPEC §1.2). A file may lack them. The shapes are the published ones.
UNUSED_IN_CHAT = {
    "vpm.mim_head.weight": (8192, 1024),
    "vpm.mim_head.bias": (8192,),
    "vpm.beit3.text_embed.weight": (64010, 1024),
    "vpm.beit3.vision_embed.mask_token": (1, 1, 1024),
}
_LAYER = re.compile(r"((?:llm|vpm\.beit3)\.encoder\.layers|(?:llm|vision_encoder)\.layers)\.(\d+)\.")
_OURS_TO_PUBLISHED = {kind: {ours: name for name, ours in names.items()} for kind, names in NAMES.items()}
_UNET = "unet."
_PAINT_PREFIXES = ("trans_block", "unet", "llm.")


def our_name(kind: Kind, published: str) -> str | None:
    """Our name of a published parameter; None for one that no model has."""
    if kind == "paint" and published.startswith(_UNET):
        return published
    return _translate(published, NAMES[kind])


def published_name(kind: Kind, ours: str) -> str:
    """The published name of a parameter of ChatModel or PaintModel."""
    if kind == "paint" and ours.startswith(_UNET):
        return ours
    published = _translate(ours, _OURS_TO_PUBLISHED[kind])
    if published is None:
        raise KeyError(f"{kind} parameter {ours} has no published name")
    return published


def _translate(name: str, table: Mapping[str, str]) -> str | None:
    layer = _LAYER.match(name)
    if layer is None:
        return table.get(name)
    found = table.get(f"{layer[1]}.{{i}}.{name[layer.end() :]}")
    return None if found is None else found.replace("{i}", layer[2])


def kind_of(names: Iterable[str], where: Path) -> Kind:
    """Chat or Paint, told by the keys. Raises CheckpointError for neither."""
    names = list(names)
    prefixes = {name.split(".")[0] for name in names}
    if {"unet", "trans_block"} & prefixes:
        return "paint"
    if {"vpm", "mapping", "query"} & prefixes:
        return "chat"
    raise CheckpointError(
        f"{where}: neither a Chat checkpoint (keys vpm.*, mapping.*, query, llm.*) nor a Paint one "
        f"(unet.*, trans_block.*, llm.*); its keys: {listed(sorted(names))}"
    )


def sort_names(kind: Kind, names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Published name -> ours for the names that a model of this kind may have, and the names nobody knows."""
    parameters, unknown = {}, []
    for name in names:
        if name in UNUSED_IN_CHAT or (kind == "paint" and not name.startswith(_PAINT_PREFIXES)):
            continue
        ours = our_name(kind, name)
        if ours is None:
            unknown.append(name)
        else:
            parameters[name] = ours
    return parameters, unknown


def listed(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
