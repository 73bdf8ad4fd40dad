"""Every command is found with its help, wherever its parser is."""

import argparse
import os
import re

import pytest

from docs.site.commands import commands_with_help

pytestmark = [pytest.mark.ops, pytest.mark.timeout(180)]  # it takes all that trains and measures: many seconds


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    return commands_with_help()


def test_commands_of_every_kind_are_told(told: dict[str, str]) -> None:
    assert next(iter(told)) == "viscpm"
    assert "--data-dir" in told["viscpm serve"]
    assert "--weight" in told["viscpm keys create"]  # of a parser of its own
    assert "--quantize" in told["viscpm checkpoint convert"]  # of one that takes torch
    assert "--lora-rank" in told["viscpm finetune chat"]
    assert "--captions" in told["viscpm evaluate llava judge"]  # of one that is built for its words alone


def test_the_first_page_names_the_others(told: dict[str, str]) -> None:
    below = {name.split()[1] for name in told if name != "viscpm"}
    assert len(below) >= 8
    assert [name for name in below if not re.search(rf"^ +{name}\b", told["viscpm"], re.MULTILINE)] == []


def test_each_is_helped_by_its_own_name_and_fits_a_page(told: dict[str, str]) -> None:
    assert all(text.startswith(f"usage: {name}") for name, text in told.items())
    assert max(len(line) for text in told.values() for line in text.split("\n")) <= 120


def test_nothing_is_left_changed(told: dict[str, str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one")
    assert parser.parse_args(["--one", "1"]).one == "1"
    assert os.environ.get("COLUMNS") != "100"
