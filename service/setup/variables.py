"""From answers to settings: where the models' files are, which device each has, how they fit there."""

from pathlib import Path

from models.jobs import Model
from service.setup.answers import SMALL, Answers, WrongAnswer

_GIB = 2**30
_WHOLE_BYTES = 22 * _GIB  # in which either published model is as published (docs/models/low-memory.md)
_LEAST_BYTES = {"chat": 4.2 * _GIB, "paint": 3.9 * _GIB}  # streamed
_USABLE_SHARE = 0.95  # of a card's memory: the rest is its driver's and the screen's


def variables_of(answers: Answers, folder: Path) -> dict[str, str]:
    """Variables and their values; `folder` is where fetched checkpoints lie, each in its own.

    Raises WrongAnswer where a card is too small.
    """
    kinds = list(answers.checkpoints)
    variables = {"VISCPM_MODELS": ",".join(kinds)}
    for kind, name in answers.checkpoints.items():
        if name != SMALL:
            variables[f"VISCPM_{kind.upper()}_CHECKPOINT"] = str(folder / name)
    for number, kind in enumerate(kinds):
        if answers.cards:
            device = f"cuda:{number}" if len(answers.cards) > 1 and len(kinds) > 1 else "cuda"
            variables[f"VISCPM_{kind.upper()}_DEVICE"] = device
    large = [kind for kind, name in answers.checkpoints.items() if name != SMALL]
    return variables | _room(large, answers.cards)


def fetch_commands(answers: Answers, folder: Path) -> list[str]:
    """What brings the files that the variables name."""
    hub = "" if answers.source in ("huggingface", "none") else f" --hub {answers.source}"
    return [f"viscpm checkpoint fetch {name}{hub} --to {folder / name}" for name in answers.published]


def _room(large: list[Model], cards: tuple[int, ...]) -> dict[str, str]:
    """How published models fit their cards, where they do not by themselves."""
    if not large or not cards:
        return {}
    if len(large) > 1 and len(cards) == 1:
        return _shared(large, cards[0])
    least_bytes = min(cards[: len(large)])
    return {} if least_bytes >= _WHOLE_BYTES else _budget(large, least_bytes)


def _shared(large: list[Model], card_bytes: int) -> dict[str, str]:
    """Both at once where there is room for both; in turns where there is for one; else both made smaller."""
    if _WHOLE_BYTES <= card_bytes < 2 * _WHOLE_BYTES / _USABLE_SHARE:
        return {"VISCPM_DEVICE_SHARING": "turns"}
    return _budget(large, card_bytes // 2)


def _budget(large: list[Model], card_bytes: int) -> dict[str, str]:
    budget_bytes = int(card_bytes * _USABLE_SHARE)
    for kind in large:
        if budget_bytes < _LEAST_BYTES[kind]:
            raise WrongAnswer(
                f"{kind} needs {_LEAST_BYTES[kind] / _USABLE_SHARE / _GIB:.1f} GiB of a card, and there are "
                f"{card_bytes / _GIB:.1f} for it: one model alone takes less, and small ones run on cpu"
            )
    return {"VISCPM_VRAM_BUDGET": f"{budget_bytes // 2**20}m"}
