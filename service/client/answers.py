"""Answers as people read them: text as it comes, and what is worth a remark."""

from typing import Any

from service.client.connection import Service
from service.client.events import follow
from service.client.exit_codes import CommandError, ExitCode
from service.client.output import note, say


def follow_answer(service: Service, job_id: str, is_quiet: bool = False) -> dict[str, Any]:
    """The answer of a chat job, whose text is printed as it comes unless `is_quiet`."""
    answer: dict[str, Any] = {}
    told = ""
    for event in follow(service, job_id):
        if event.data.get("object") == "chat.answer":
            answer = event.data
        elif piece := event.data.get("delta", ""):
            piece = piece[max(0, len(told) - int(event.data["offset"])) :]  # of a stream that was taken up again
            told += piece
            if not is_quiet:
                say(piece, end="")
    if not answer:
        raise CommandError(f"job {job_id} ended without an answer")
    if not is_quiet:
        say(answer["answer"][len(told) :] if answer["answer"].startswith(told) else "")
    return answer


def remark_answer(answer: dict[str, Any]) -> ExitCode:
    """What is to be known of an answer, and what it comes to."""
    remark_untrained(answer)
    if answer.get("dropped_turns"):
        note(f"(the conversation is long: its {answer['dropped_turns']} oldest turns were left out)")
    if answer["finish_reason"] == "length":
        note("(the answer was cut off at its longest: --max-new-tokens)")
    if answer["finish_reason"] == "content_filter":
        note(f"(the safety screens keep this answer back{_categories(answer)})")
        return ExitCode.REFUSED
    return ExitCode.OK


def remark_untrained(answer: dict[str, Any]) -> None:
    """Random weights say so."""
    if answer.get("untrained"):
        note("(untrained weights: the answer means nothing)")


def _categories(answer: dict[str, Any]) -> str:
    """Of which a screen found something, as the verdicts name them."""
    moderation = answer.get("moderation") or {}
    flagged = sorted(
        {
            name
            for part in ("input", "output")
            for result in (moderation.get(part) or {}).get("results", ())
            for name, is_flagged in result.get("categories", {}).items()
            if is_flagged
        }
    )
    return f": {', '.join(flagged)}" if flagged else ""
