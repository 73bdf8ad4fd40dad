"""From the language model's hidden states to the UNet's conditioning."""

from torch import Tensor, nn


class PromptAdapter(nn.Module):
    """Linear without bias, then LayerNorm (eps 1e-6): (B, L, D) -> (B, L, cross attention width), SPEC §8.1."""

    def __init__(self, dim_model: int, cross_attention_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim_model, cross_attention_dim, bias=False)
        self.norm = nn.LayerNorm(cross_attention_dim, eps=1e-6)

    def forward(self, hidden: Tensor) -> Tensor:
        adapted: Tensor = self.norm(self.linear(hidden))
        return adapted
