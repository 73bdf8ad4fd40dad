"""A wrong answer is asked again, an empty one is the default."""

import pytest

from service.doctor.gpus import Gpu, Gpus
from service.setup.answers import read_models
from service.setup.questions import asked, card_question, models_question, source_question


def test_asked_until_it_is_an_answer() -> None:
    lines, told = iter(["chat", "", "never read"]), []
    answer = asked(lambda text: next(lines), told.append, models_question(), "small", read_models)
    assert answer == {"chat": "small", "paint": "small"}
    assert told[0].startswith("1 of 3. Which models?") and "no model is called chat" in told[1]


def test_the_end_of_input_ends_it() -> None:
    def end(text: str) -> str:
        raise EOFError

    with pytest.raises(EOFError):
        asked(end, print, "", "small", read_models)


def test_what_is_found_is_shown() -> None:
    assert "none was found on this machine" in card_question(Gpus("", (), "no driver"))
    shown = card_question(Gpus("580", (Gpu("NVIDIA L4", 23 * 2**30, 0, "8.9"),)))
    assert "NVIDIA L4 of 23 GiB" in shown
    assert "modelscope" in source_question()
