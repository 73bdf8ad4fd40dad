"""Runs that end where training would begin: what the flags came to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.training.cli import main
from models.training.loop import RunSettings


@dataclass
class Begun:
    """What a command would train, and how."""

    task: Any
    settings: RunSettings


def begin(set_attribute: Callable[[str, object], None], module: str, *arguments: object) -> Begun:
    """The task and the settings of a command line, whose module is told not to train.

    Args:
        set_attribute: a MonkeyPatch's.
    """
    begun: list[Begun] = []
    set_attribute(f"{module}.train", lambda task, settings: begun.append(Begun(task, settings)))
    assert main([str(argument) for argument in arguments]) == 0
    (found,) = begun
    return found
