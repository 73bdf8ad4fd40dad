"""What the values of flags may be, and keys, which are no flags."""

import argparse
import os

from models.evaluation.errors import EvaluationError


def api_key(variable: str) -> str:
    """The key from the environment: keys on a command line can be read by all users of a machine."""
    if variable and variable not in os.environ:
        raise EvaluationError(f"the variable {variable}, which --api-key-env names, is not set")
    return os.environ.get(variable, "") if variable else ""


def positive(text: str) -> int:
    return _whole(text, 1)


def natural(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r}; a whole number from {least} on is expected")
    return int(text)
