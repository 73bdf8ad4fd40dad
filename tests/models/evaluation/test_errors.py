"""What stops an evaluation: told apart from what readers catch, and said in one line."""

import ast
from pathlib import Path

import pytest

import models.evaluation
from models.evaluation.errors import EvaluationError

SOURCES = sorted(Path(models.evaluation.__path__[0]).rglob("*.py"))


def test_no_handler_of_other_errors_swallows_it() -> None:
    """Readers turn OSError, ValueError and the like of one line or file into it, within the same try."""
    assert EvaluationError.__mro__[1:] == (Exception, BaseException, object)


def raised(file: Path) -> list[ast.Call]:
    calls = [node.exc for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Raise)]
    return [call for call in calls if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "EvaluationError"]


@pytest.mark.parametrize("file", [file for file in SOURCES if raised(file)], ids=lambda file: file.stem)
def test_every_message_is_one_line_that_says_something(file: Path) -> None:
    for call in raised(file):
        (message,) = call.args
        texts = [node.value for node in ast.walk(message) if isinstance(node, ast.Constant)]
        assert texts != [""] and not any("\n" in text for text in texts if isinstance(text, str)), ast.unparse(call)
