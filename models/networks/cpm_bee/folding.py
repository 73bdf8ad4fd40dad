"""Scalings taken into the weights, for inference engines; files, exports and training keep the published form."""

from torch import nn

from models.networks.cpm_bee.layers import Attention, FeedForward
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.quantized_linear import QuantizedLinear


def fold_scalings(model: CPMBee) -> None:
    """Divides the weights in place by what the modules divided by; the numbers stay the same but for rounding.

    The factor 1/sqrt(D) of the embedding serves both ends: the tied matrix makes input rows and logits with it.

    Raises:
        ValueError: the model is folded already.
    """
    if model.embedding_divisor is None:
        raise ValueError("the scalings of this CPM-Bee are folded already; a second time would change its numbers")
    _fold(model.embedding, model.embedding_divisor)
    model.embedding_divisor = None
    for module in model.modules():
        if isinstance(module, Attention):
            for linear in (module.query, module.key, module.value):
                _fold(linear, module.input_divisor)
            _fold(module.output, module.output_divisor)
            module.input_divisor = module.output_divisor = None
        elif isinstance(module, FeedForward):
            _fold(module.gate, module.input_divisor)
            _fold(module.up, module.input_divisor)
            _fold(module.down, module.inner_divisor)
            module.input_divisor = module.inner_divisor = None


def _fold(module: nn.Linear | nn.Embedding, divisor: float | None) -> None:
    if divisor is None:
        return
    if isinstance(module, QuantizedLinear):
        module.divide_(divisor)
    else:
        module.weight.data.div_(divisor)
