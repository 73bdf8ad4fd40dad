"""One CPM-Bee over several ranks, each with a part of every large weight (tensor parallelism).

Query, key and value are split by heads and gate and up by columns of the feed-forward, so that a rank computes its part
from its own weights alone; output and down are split by their inputs, and their products are summed over the ranks. The
position bias is split by heads, the vocabulary by tokens. Norms are whole everywhere.
"""

from dataclasses import dataclass, replace

from torch import nn

from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.layers import Attention
from models.networks.cpm_bee.model import CPMBee

Part = tuple[slice, ...]  # of a tensor; (): all of it

_BY_OUTPUT = ("attention.query", "attention.key", "attention.value", "feed_forward.gate", "feed_forward.up")
_BY_INPUT = ("attention.output", "feed_forward.down")
_ALL = slice(None)


@dataclass(frozen=True)
class Shard:
    """What rank `rank` of `size` holds."""

    rank: int
    size: int

    def span(self, length: int) -> slice:
        """Its part of so many; where they do not divide, the last ranks hold fewer."""
        width = self.width(length)
        return slice(min(self.rank * width, length), min((self.rank + 1) * width, length))

    def width(self, length: int) -> int:
        """The most that a rank holds of so many."""
        return -(-length // self.size)

    def part(self, name: str, shape: tuple[int, ...]) -> Part:
        """Of a parameter of CPMBee, by its name and whole shape."""
        module = name.removesuffix(".weight")
        if module == "embedding" or module.endswith(_BY_OUTPUT):
            return (self.span(shape[0]),)
        if module == "position_bias" or module.endswith(_BY_INPUT):
            return (_ALL, self.span(shape[1]))
        return ()


def check_divisible(config: CPMBeeConfig, size: int) -> None:
    """Raises ValueError where so many ranks cannot share the heads, or the feed-forward, evenly."""
    sizes = {"attention heads": config.num_heads, "feed-forward columns": config.dim_ff}
    for what, count in sizes.items():
        if count % size:
            allowed = [str(n) for n in range(1, config.num_heads + 1) if not any(c % n for c in sizes.values())]
            raise ValueError(
                f"{size} devices cannot share this model's {count} {what} evenly; allowed: {', '.join(allowed)}"
            )


def narrow(llm: CPMBee, shard: Shard) -> None:
    """Makes a model without weights one of a shard: its own heads, which `config` counts from here on, too.

    The divisors stay those of the whole model, for all ranks together make the sums that they divide, and so does
    `config.vocab_size`.
    """
    heads = llm.config.num_heads // shard.size
    llm.num_ranks = shard.size
    llm.config = replace(llm.config, num_heads=heads, dim_ff=llm.config.dim_ff // shard.size)
    for name, module in llm.named_modules():
        if isinstance(module, Attention):
            module.num_heads = heads
        elif isinstance(module, nn.Linear):
            part = shard.part(f"{name}.weight", (module.out_features, module.in_features))
            rows, columns = [*part, _ALL, _ALL][:2]
            module.out_features = len(range(module.out_features)[rows])
            module.in_features = len(range(module.in_features)[columns])
