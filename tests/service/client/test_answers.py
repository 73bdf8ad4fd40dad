"""Answers as people read them: what is remarked beside them."""

from typing import Any

import pytest

from service.client.answers import follow_answer, remark_answer
from service.client.connection import Service
from service.client.events import begin
from service.client.exit_codes import ExitCode
from tests.service.client.conftest import Running

ANSWER: dict[str, Any] = {"finish_reason": "stop", "untrained": False, "dropped_turns": 0}
FOUND = {"results": [{"categories": {"violence": True, "hate": False}}, {"categories": {"self-harm": True}}]}


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        ({}, ExitCode.OK, ""),
        ({"untrained": True}, ExitCode.OK, "(untrained weights: the answer means nothing)\n"),
        ({"dropped_turns": 2}, ExitCode.OK, "(the conversation is long: its 2 oldest turns were left out)\n"),
        ({"finish_reason": "length"}, ExitCode.OK, "(the answer was cut off at its longest: --max-new-tokens)\n"),
        (
            {"finish_reason": "content_filter", "moderation": {"input": None, "output": FOUND}},
            ExitCode.REFUSED,
            "(the safety screens keep this answer back: self-harm, violence)\n",
        ),
    ],
)
def test_what_is_to_be_known_is_remarked(
    answer: dict[str, Any], code: ExitCode, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert remark_answer({**ANSWER, **answer}) == code
    assert capsys.readouterr() == ("", told)


def test_a_program_gets_the_answer_alone(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    with Service(running.api.url, running.key) as service:
        job_id = begin(service, "/chat", {"question": "stream 3"})
        answer = follow_answer(service, job_id, is_quiet=True)
    assert (answer["id"], answer["answer"]) == (job_id, "w0 w1 w2 ")
    assert capsys.readouterr().out == ""
