"""The guard adapters by name."""

from typing import Literal, get_args

from safety.text.guards.adapter import GuardAdapter
from safety.text.guards.granite_guardian import GraniteGuardian
from safety.text.guards.llama_guard import LlamaGuard
from safety.text.guards.polyguard import PolyGuard
from safety.text.guards.qwen3guard import Qwen3Guard
from safety.text.guards.shieldgemma import ShieldGemma

GuardName = Literal["qwen3guard", "polyguard", "llama-guard-3", "llama-guard-4", "shieldgemma", "granite-guardian"]
GUARD_NAMES: tuple[str, ...] = get_args(GuardName)

_ADAPTERS: dict[str, GuardAdapter] = {
    adapter.name: adapter
    for adapter in (
        Qwen3Guard(),
        PolyGuard(),
        LlamaGuard("llama-guard-3", "meta-llama/Llama-Guard-3-8B"),
        LlamaGuard("llama-guard-4", "meta-llama/Llama-Guard-4-12B"),
        ShieldGemma(),
        GraniteGuardian(),
    )
}


def guard_adapter(name: str) -> GuardAdapter:
    """Raises ValueError, naming those there are."""
    if name not in _ADAPTERS:
        raise ValueError(f"a guard's adapter is one of {', '.join(_ADAPTERS)}, got {name!r}")
    return _ADAPTERS[name]
