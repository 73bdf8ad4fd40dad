"""Every command is found with its flags, wherever its parser is."""

import argparse

import pytest

from docs.site.commands import command_parsers, described


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    return {parser.prog: described(parser) for parser in command_parsers()}


def test_commands_of_every_kind_are_told(told: dict[str, str]) -> None:
    assert next(iter(told)) == "viscpm"
    assert "--data-dir" in told["viscpm serve"]
    assert "--weight" in told["viscpm keys create"]  # of a parser of its own
    assert "--quantize" in told["viscpm checkpoint convert"]  # of one that takes torch
    assert "--lora-rank" in told["viscpm finetune chat"]
    assert "--judge-model" in told["viscpm evaluate llava judge"] or "--model" in told["viscpm evaluate llava judge"]


def test_each_is_told_once_and_fits_a_page(told: dict[str, str]) -> None:
    names = [parser.prog for parser in command_parsers()]
    assert len(names) == len(set(names)) == len(told)
    assert max(len(line) for text in told.values() for line in text.split("\n")) <= 120
    assert all(text.startswith("usage: viscpm") for text in told.values())


def test_commands_parse_again_afterwards(told: dict[str, str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one")
    assert parser.parse_args(["--one", "1"]).one == "1"
