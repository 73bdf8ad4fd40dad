"""The adapter written out: LayerNorm(W x) with eps 1e-6."""

import torch

from models.networks.paint.adapter import PromptAdapter


def test_adapter_is_a_bare_linear_and_a_layer_norm() -> None:
    torch.manual_seed(0)
    adapter = PromptAdapter(dim_model=6, cross_attention_dim=4)
    torch.nn.init.normal_(adapter.norm.weight)
    torch.nn.init.normal_(adapter.norm.bias)
    hidden = 1e-3 * torch.randn(2, 3, 6)  # so small that eps counts

    product = hidden @ adapter.linear.weight.T
    centred = product - product.mean(-1, keepdim=True)
    normed = centred / (product.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()
    expected = normed * adapter.norm.weight + adapter.norm.bias

    assert torch.allclose(adapter(hidden), expected, atol=1e-6)
    assert set(adapter.state_dict()) == {"linear.weight", "norm.weight", "norm.bias"}
