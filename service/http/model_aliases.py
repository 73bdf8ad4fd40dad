"""Names under which clients ask for the models: their own, and the aliases of VISCPM_MODEL_ALIASES.

Clients of the field choose by names: some send pictures only to an id with `vision` in it, some paint only with
`dall-e-3`. A model is its kind here: whatever checkpoint serves it, an alias leads to it.
"""

from collections.abc import Sequence

from models.jobs import Model
from service.core.errors import ModelNotFound
from service.jobs.worker_registry import WorkerRegistry

_DOES = {"chat": "answers questions", "paint": "paints"}


class ModelAliases:
    """The names of what is served here.

    Args:
        aliases: `name=chat` or `name=paint` each, as the setting holds them.
        served: of VISCPM_MODELS; other models have no names here.
        registry: tells the models' own names.
    """

    def __init__(self, aliases: Sequence[str], served: Sequence[Model], registry: WorkerRegistry) -> None:
        pairs = [alias.rpartition("=") for alias in aliases]
        self._aliases: dict[Model, list[str]] = {
            kind: [name for name, _, led_to in pairs if led_to == kind] for kind in served
        }
        self._registry = registry

    def names(self, kind: Model) -> list[str]:
        """The model's own name, where one is or was served, then its aliases; none of one that is not served here."""
        if kind not in self._aliases:
            return []
        own = self._registry.last_model(kind)
        return list(dict.fromkeys([*([own.name] if own is not None and own.name else []), *self._aliases[kind]]))

    def resolve(self, name: str) -> Model:
        """Which model a name means. Raises ModelNotFound."""
        for kind in self._aliases:
            if name in self.names(kind):
                return kind
        raise _unknown(name, [one for kind in self._aliases for one in self.names(kind)])

    def require(self, name: str, kind: Model) -> None:
        """Raises ModelNotFound unless the name means this model; of the other one, it says which to use."""
        names = self.names(kind)
        if name in names:
            return
        other = self.resolve(name)
        raise ModelNotFound(
            f"model: {name[:64]!r} {_DOES[other]} and cannot be asked here; use one of {', '.join(names) or 'none'}",
            param="model",
        )


def _unknown(name: str, names: Sequence[str]) -> ModelNotFound:
    return ModelNotFound(f"model: there is no {name[:64]!r} here; there are {', '.join(names)}", param="model")
