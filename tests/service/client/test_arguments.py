"""Flags that commands share: one line for what is wrong, and nothing sent that was not asked for."""

import argparse

import pytest

from service.client.arguments import (
    ANSWER_FIELDS,
    Parser,
    add_answer_flags,
    add_service_flags,
    given,
    positive,
    seconds,
)


def parser() -> Parser:
    made = Parser(prog="viscpm x")
    add_answer_flags(made)
    add_service_flags(made)
    return made


def test_only_what_was_asked_for_is_sent() -> None:
    assert given(parser().parse_args([]), *ANSWER_FIELDS) == {}
    options = parser().parse_args(["--sample", "--top-k", "0", "--temperature", "0.5"])
    assert given(options, *ANSWER_FIELDS) == {"do_sample": True, "top_k": 0, "temperature": 0.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nothing"], "unrecognized arguments: --nothing"),
        (["--num", "3"], "unrecognized arguments: --num 3"),  # no abbreviations: later flags would take them
        (["--seed", "x"], "invalid int value: 'x'"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse_args(arguments)
    told = capsys.readouterr().err
    assert end.value.code == 2 and message in told and told.count("\n") == 1 and told.startswith("viscpm x: ")


def test_counts_and_times_have_limits() -> None:
    assert positive("12") == 12 and seconds("0.5") == 0.5
    for wrong in ("0", "-1", "x", "1.5", "10000000", "²"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no count"):
            positive(wrong)
    for wrong in ("0", "-1", "x", "86401", "nan", "inf"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no time"):
            seconds(wrong)
