import torch

from models.networks.cpm_bee.layers import RMSNorm, rotate


def test_rotary_tables_take_the_dtype_they_are_told() -> None:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).half()
    subs = torch.tensor([0, 1, 2, 5])
    rough, exact = rotate(x, subs, torch.float16), rotate(x, subs, torch.float32)
    assert rough.dtype == exact.dtype == torch.float16
    assert torch.equal(rough[0], x[0]) and torch.equal(exact[0], x[0])
    assert 0.01 < (rough - exact).abs().max() < 0.5
    assert torch.allclose(exact.float(), rotate(x.float(), subs, torch.float32), atol=4e-3)


def test_norm_rounds_before_its_weight() -> None:
    norm = RMSNorm(48, 1e-6).to(torch.bfloat16)
    torch.manual_seed(0)
    norm.weight.data.uniform_(0.5, 2)
    x = (torch.randn(5, 48) * 30).to(torch.bfloat16)
    unit = (x.float() / (x.float().pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()).to(torch.bfloat16)
    assert torch.equal(norm(x), unit * norm.weight)
