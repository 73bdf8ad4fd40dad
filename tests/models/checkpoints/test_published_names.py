"""Published names and ours: the same set, told apart in both directions."""

import re
from pathlib import Path

import pytest

from models.checkpoints import published_names
from models.checkpoints.config_from_shapes import PUBLISHED_CHAT, PUBLISHED_PAINT
from models.checkpoints.published_names import UNUSED_IN_CHAT, kind_of, our_name, published_name
from models.checkpoints.tensor_files import CheckpointError
from models.checkpoints.weights import skeleton


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "config"), [("chat", PUBLISHED_CHAT), ("paint", PUBLISHED_PAINT)])
def test_every_parameter_has_one_published_name_and_comes_back(kind: str, config: object) -> None:
    ours = list(skeleton(config).state_dict())  # type: ignore[arg-type]
    published = [published_name(kind, name) for name in ours]  # type: ignore[arg-type]
    assert len(set(published)) == len(ours)
    assert [our_name(kind, name) for name in published] == ours  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("llm.input_embedding.weight", "llm.embedding.weight"),
        ("llm.encoder.layers.47.ffn.ffn.w_in.w_0.weight", "llm.layers.47.feed_forward.gate.weight"),
        ("llm.encoder.layers.0.self_att.self_attention.attention_out.weight", "llm.layers.0.attention.output.weight"),
        ("vpm.beit3.encoder.embed_positions.B.weight", "vision_encoder.query_positions"),
        (
            "vpm.beit3.encoder.layers.3.self_attn.inner_attn_ln.B.bias",
            "vision_encoder.layers.3.query_expert.attention.output_norm.bias",
        ),
        (
            "vpm.beit3.encoder.layers.23.ffn.A.ffn_layernorm.weight",
            "vision_encoder.layers.23.image_expert.feed_forward.norm.weight",
        ),
        ("query", "query_tokens"),
        ("mapping.2.bias", "projector.2.bias"),
    ],
)
def test_chat_names(published: str, ours: str) -> None:
    assert our_name("chat", published) == ours
    assert published_name("chat", ours) == published


def test_names_that_nobody_has() -> None:
    for name in ("llm.layers.0.attention.query.weight", "llm.encoder.layers.0.bias", "mapping.1.weight", "unet.a"):
        assert our_name("chat", name) is None
    assert all(our_name("chat", name) is None for name in UNUSED_IN_CHAT)
    with pytest.raises(KeyError, match="llm.nothing"):
        published_name("chat", "llm.nothing")


def test_kinds_are_told_by_the_keys() -> None:
    assert kind_of(["llm.a", "query"], Path("f")) == "chat"
    assert kind_of(["llm.a", "unet.conv_in.weight"], Path("f")) == "paint"
    with pytest.raises(
        CheckpointError, match="neither a Chat checkpoint .* nor a Paint one .* its keys: lm_head, model"
    ):
        kind_of(["model", "lm_head"], Path("f"))


def test_no_other_module_names_what_upstream_calls_its_parameters() -> None:
    upstream = re.compile(r"vpm\.|trans_block|\bmapping\.\d|input_embedding|layernorm_before|project_[qkv]\b")
    models = Path(published_names.__file__).parents[1]
    naming = [file.name for file in sorted(models.rglob("*.py")) if upstream.search(file.read_text(encoding="utf-8"))]
    assert naming == ["published_names.py"]
