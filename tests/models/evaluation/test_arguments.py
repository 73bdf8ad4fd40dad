"""Values of flags, and keys from the environment."""

import argparse

import pytest

from models.evaluation.arguments import api_key, natural, positive
from models.evaluation.errors import EvaluationError


def test_whole_numbers_from_their_least_on() -> None:
    assert (positive("1"), positive("007"), natural("0"), natural("12")) == (1, 7, 0, 12)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "", " 1", "+1", "1_000", "٣", "²", "many"])
def test_anything_else_is_refused_with_what_was_given(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as error:
        positive(text)
    assert str(error.value) == f"{text!r}; a whole number from 1 on is expected"


def test_0_is_natural_and_what_is_under_it_is_not() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="'-1'; a whole number from 0 on"):
        natural("-1")


def test_a_flag_says_what_was_wrong_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=positive)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--batch-size", "0"])
    assert "argument --batch-size: '0'; a whole number from 1 on is expected" in capsys.readouterr().err


def test_a_key_is_read_from_the_variable_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sesame")
    monkeypatch.setenv("EMPTY_KEY", "")
    assert (api_key("SOME_KEY"), api_key("EMPTY_KEY"), api_key("")) == ("sesame", "", "")
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(EvaluationError, match="the variable SOME_KEY, which --api-key-env names, is not set"):
        api_key("SOME_KEY")
