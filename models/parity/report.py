"""Lines of a parity run: one quantity each, with the largest difference, its limit and the verdict."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Report:
    """Collects the verdicts and prints each line as it comes."""

    failures: int = 0
    lines: int = 0
    notes: list[str] = field(default_factory=list)

    def difference(self, name: str, got: Tensor, expected: Tensor, limit: float, relative: bool = False) -> None:
        """Max abs difference of two tensors of one shape; `relative` divides by the largest expected entry."""
        if got.shape != expected.shape:
            self.line(name, f"shape {tuple(got.shape)} for {tuple(expected.shape)}", f"{limit:g}", False)
            return
        got, expected = got.detach().double().cpu(), expected.double().cpu()
        value = (got - expected).abs().max().item() if got.numel() else 0.0
        if relative and expected.numel():
            value /= max(expected.abs().max().item(), 1e-30)
        # A NaN compares false and so fails.
        self.line(name, f"{value:.3g}", f"{limit:g}", value <= limit)

    def mean_difference(self, name: str, got: Tensor, expected: Tensor, limit: float) -> None:
        """Mean abs difference, for half precision, where the mean says more than the maximum."""
        value = (got.detach().double().cpu() - expected.double().cpu()).abs().mean().item()
        self.line(name, f"{value:.3g}", f"{limit:g}", value <= limit)

    def number(self, name: str, got: float, expected: float, limit: float) -> None:
        """Difference of two numbers relative to the expected one (absolute below 1)."""
        value = abs(got - expected) / max(abs(expected), 1.0)
        self.line(name, f"{value:.3g}", f"{limit:g}", value <= limit)

    def exact(self, name: str, got: object, expected: object) -> None:
        """Equality of plain data; a mismatch shows both, shortened."""
        same = got == expected
        self.line(name, "0" if same else f"got {got!s:.60} expected {expected!s:.60}", "exact", same)

    def note(self, name: str, text: str) -> None:
        """Something reported, not judged."""
        print(f"{name:<72} {text:>14} {'':>8} noted", flush=True)

    def line(self, name: str, value: str, limit: str, passed: bool) -> None:
        self.lines += 1
        self.failures += not passed
        print(f"{name:<72} {value:>14} {limit:>8} {'pass' if passed else 'FAIL'}", flush=True)


def to_tensor(values: list) -> Tensor:  # type: ignore[type-arg]
    """Nested lists of a fixture as int64."""
    return torch.tensor(values, dtype=torch.int64)
