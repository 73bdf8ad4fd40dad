"""VisCPM-Paint's trained networks in one module: what a Paint checkpoint holds."""

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.paint.adapter import PromptAdapter
from models.networks.paint.config import PaintConfig


class PaintModel(nn.Module):
    """CPM-Bee, the prompt adapter and the UNet of Stable Diffusion."""

    def __init__(self, config: PaintConfig) -> None:
        super().__init__()
        self.config = config
        self.llm = CPMBee(config.llm)
        self.prompt_adapter = PromptAdapter(config.llm.dim_model, config.cross_attention_dim)
        self.unet = UNet2DConditionModel.from_config(dict(config.unet))

    def encode_prompts(self, batch: PackedBatch) -> Tensor:
        """Conditioning of the UNet, padded rows included (SPEC §8.1): (B, L, cross attention width).

        The language model runs in its own dtype; its hidden states are cast to the adapter's before the adapter.
        """
        hidden = self.llm(batch)  # (B, L, D)
        adapted: Tensor = self.prompt_adapter(hidden.to(self.prompt_adapter.linear.weight.dtype))
        return adapted
