"""VisCPM-Paint's trained networks in one module: what a Paint checkpoint holds."""

from collections.abc import Mapping
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from models.cpm_bee.config import CPMBeeConfig
from models.cpm_bee.model import CPMBee
from models.cpm_bee.packing import PackedBatch
from models.paint.adapter import PromptAdapter


class PaintModel(nn.Module):
    """CPM-Bee, the prompt adapter and a diffusers UNet.

    Args:
        llm: sizes of the language model.
        unet: a UNet2DConditionModel configuration; its cross attention width is the adapter's output width.
    """

    def __init__(self, llm: CPMBeeConfig, unet: Mapping[str, Any]) -> None:
        super().__init__()
        self.llm = CPMBee(llm)
        self.unet = UNet2DConditionModel.from_config(dict(unet))
        self.prompt_adapter = PromptAdapter(llm.dim_model, self.unet.config.cross_attention_dim)

    def encode_prompts(self, batch: PackedBatch) -> Tensor:
        """Conditioning of the UNet, padded rows included (SPEC §8.1): (B, L, cross attention width).

        The language model runs in its own dtype; its hidden states are cast to the adapter's before the adapter.
        """
        hidden = self.llm(batch)  # (B, L, D)
        return self.prompt_adapter(hidden.to(self.prompt_adapter.linear.weight.dtype))
