"""Low-rank adapters of linear layers, put in by peft and merged into the weights at export."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

ADAPTER = "default"
_DOWN, _UP, _BASE = f".lora_A.{ADAPTER}.weight", f".lora_B.{ADAPTER}.weight", ".base_layer"
Parts = Literal["llm", "tower", "both"]

# The linears of every layer, by the end of their names: of CPM-Bee's blocks and of both experts of the tower.
_LLM_LINEARS = r"llm\.layers\.\d+\.(attention\.(query|key|value|output)|feed_forward\.(gate|up|down))"
_TOWER_LINEARS = (
    r"vision_encoder\.layers\.\d+\.(image|query)_expert\.(attention\.(query|key|value|output)|feed_forward\.(up|down))"
)
_LINEARS: dict[Parts, str] = {
    "llm": _LLM_LINEARS,
    "tower": _TOWER_LINEARS,
    "both": f"({_LLM_LINEARS}|{_TOWER_LINEARS})",
}


@dataclass(frozen=True)
class LoraSettings:
    """Adapters of rank `rank`, whose product counts alpha / rank.

    `tunes_embedding`: the table of tokens is trained beside them, for words of tokens that the model hardly knows.
    """

    rank: int
    alpha: int
    parts: Parts = "llm"
    tunes_embedding: bool = False


def add_adapters(model: nn.Module, settings: LoraSettings) -> None:
    """Put adapters that change nothing yet beside the linears, in place; drawn from torch's own generator."""
    from peft import LoraConfig, inject_adapter_in_model  # takes as long to import as everything else together

    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=_LINEARS[settings.parts], lora_dropout=0.0
    )
    inject_adapter_in_model(config, model, ADAPTER)


def is_adapter(name: str) -> bool:
    """Whether a parameter is an adapter's, by its name."""
    return ".lora_" in name


def merged(weights: Mapping[str, Tensor], settings: LoraSettings) -> dict[str, Tensor]:
    """The weights of the model without adapters whose outputs are those of the one with them.

    Args:
        weights: the whole state of the one with adapters, by name, on the CPU.
    """
    result = {name.replace(_BASE, ""): tensor for name, tensor in weights.items() if not is_adapter(name)}
    for name, down in weights.items():
        if name.endswith(_DOWN):
            linear = name.removesuffix(_DOWN)
            product = weights[linear + _UP] @ down  # (out, rank) x (rank, in)
            result[f"{linear}.weight"] = result[f"{linear}.weight"] + settings.alpha / settings.rank * product
    return result
