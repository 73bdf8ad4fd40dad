"""The three questions, on a terminal: what is not answered by a flag is asked, and a wrong answer is asked again."""

from collections.abc import Callable
from typing import TypeVar

from service.doctor.gpus import Gpus
from service.setup.answers import CHAT, PAINT, SOURCES, WrongAnswer

Answer = TypeVar("Answer")
Ask = Callable[[str], str]  # shows a text, gives a line; raises EOFError


def models_question() -> str:
    """Which models."""
    return (
        "1 of 3. Which models?\n"
        "    small          the trained small ones that are installed already: nothing to fetch, no GPU needed\n"
        f"    {', '.join(CHAT)}   talk about pictures, 20.6 GB\n"
        f"    {', '.join(PAINT)}   paint, 22.7 GB\n"
        "  One of chat and one of paint go together: chat-balance,paint-balance\n"
    )


def card_question(found: Gpus) -> str:
    """Which card."""
    there = ", ".join(f"{gpu.name} of {gpu.total_bytes / 2**30:.0f} GiB" for gpu in found.devices)
    return (
        "2 of 3. Which card?\n"
        f"    gpu            {there or 'none was found on this machine'}\n"
        "    24g            one of so much memory, of another machine; two are 24g,24g\n"
        "    cpu            the processor: right for small, and minutes an answer for the others\n"
    )


def source_question() -> str:
    """Which source."""
    return (
        "3 of 3. Where from?\n"
        f"    {', '.join(SOURCES[:2])}, or the URL of a mirror of the first such as https://hf-mirror.com\n"
        "    none           the files are brought in another way\n"
    )


def asked(
    ask: Ask, tell: Callable[[str], object], question: str, default: str, read: Callable[[str], Answer]
) -> Answer:
    """The answer, asked until it is one; an empty line is the default. Raises EOFError."""
    tell(question)
    while True:
        try:
            return read(ask(f"  [{default}] ").strip() or default)
        except WrongAnswer as error:
            tell(f"  {error}")
