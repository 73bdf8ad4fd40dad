"""Steps that keep the UNet's deep part from a step before (as DeepCache does, Ma et al. 2024).

What goes up into the last block changes little from one step to the next. A full step remembers it; a shallow one runs
the first block down and the last one up around it, with the step's own latents and timestep.
"""

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor


class StepCachingUNet:
    """The UNet in full, telling what its last block was given, or its outer blocks around that."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet = unet

    def full(self, rows: Tensor, times: Tensor, texts: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The prediction (rows, C, h, w), and the deep features of every row."""
        seen: list[Tensor] = []
        hook = self.unet.up_blocks[-1].register_forward_pre_hook(
            lambda block, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
        )
        try:
            prediction: Tensor = self.unet(rows, times, texts, encoder_attention_mask=mask, return_dict=False)[0]
        finally:
            hook.remove()
        return prediction, seen[0]

    def shallow(self, rows: Tensor, times: Tensor, texts: Tensor, mask: Tensor | None, deep: Tensor) -> Tensor:
        """The prediction from deep features of an earlier step."""
        unet = self.unet
        embedding = unet.time_embedding(unet.time_proj(times).to(rows.dtype))
        attended = {
            "encoder_hidden_states": texts,
            "encoder_attention_mask": None if mask is None else ((1 - mask.to(rows.dtype)) * -10000.0)[:, None],
        }
        sample = unet.conv_in(rows)
        down, up = unet.down_blocks[0], unet.up_blocks[-1]
        _, residuals = down(sample, embedding, **(attended if _attends(down) else {}))
        # The block's last entry may be its smaller output, which goes deeper.
        outer = (sample, *residuals)[: len(up.resnets)]
        sample = up(deep, res_hidden_states_tuple=outer, temb=embedding, **(attended if _attends(up) else {}))
        prediction: Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))
        return prediction


def _attends(block: torch.nn.Module) -> bool:
    return bool(getattr(block, "has_cross_attention", False))
