"""Newcomers that are read together: who joins whom, and what becomes of the others when one of them goes."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from models.engines.chat import prefill, prompt_reader, request
from models.engines.chat.request import ChatRequest
from models.jobs import ChatJob, JobRejected
from tests.models.engines.chat.jobs import BEAMS, job, picture, timeless

TEXTS = [job(f"text{number}", pixels=b"", question="Why? " * number, generation=BEAMS) for number in (1, 2, 3)]


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Ids of the requests of each reading that was begun."""
    begun: list[list[str]] = []

    def read_prompts(requests: Sequence[ChatRequest], *arguments: Any) -> Any:
        begun.append([one.job.job_id for one in requests])
        return request.read_prompts(requests, *arguments)

    monkeypatch.setattr(prompt_reader, "read_prompts", read_prompts)
    return begun


@pytest.mark.slow
def test_prompts_without_a_picture_to_be_looked_at_are_read_together(
    make_bench: Callable[..., Any], groups: list[list[str]]
) -> None:
    seen = job("seen", pixels=picture(7), image_key="7")
    alone = {one.job_id: make_bench().run(one) for one in [*TEXTS, seen]}
    bench = make_bench()
    bench.run(seen)
    del groups[:]
    again = job("again", pixels=picture(7), image_key="7")
    bench.finish(*TEXTS, again)
    assert groups == [["text1", "text2", "text3", "again"]]
    for one in TEXTS:
        assert timeless(bench.result(one.job_id)) == timeless(alone[one.job_id])
    assert timeless(bench.result("again")) == timeless(alone["seen"])
    assert bench.count("prefill_s") == 5 and bench.count("vision_tower_s") == 1


def test_a_new_picture_is_looked_at_alone(make_bench: Callable[..., Any], groups: list[list[str]]) -> None:
    make_bench().finish(TEXTS[0], job("new", pixels=picture(8)), TEXTS[1], TEXTS[2])
    assert groups == [["text1"], ["new"], ["text2", "text3"]]


@pytest.mark.slow
def test_no_more_tokens_are_read_at_once_than_are_allowed(
    make_bench: Callable[..., Any], groups: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    bench.admit(*TEXTS)
    tokens = [one.num_prompt_tokens for one in bench.engine._requests.values()]
    monkeypatch.setattr(prompt_reader, "TOKENS_AT_ONCE", tokens[0] + tokens[1])
    bench.finish()
    assert groups == [["text1", "text2"], ["text3"]]
    monkeypatch.setattr(prompt_reader, "TOKENS_AT_ONCE", 1)  # a longer one is read, alone
    bench.finish(job("long", pixels=b""))
    assert groups[-1] == ["long"]


@pytest.mark.slow
def test_who_is_cancelled_while_it_is_read_is_gone_and_the_others_are_read_again(
    make_bench: Callable[..., Any], groups: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {one.job_id: make_bench().run(one) for one in TEXTS}
    bench = make_bench(num_blocks=200)
    bench.finish(job("first", pixels=b""))
    del groups[:]
    bench.admit(*TEXTS)
    reader = bench.engine._reader
    assert reader.begin() and reader.read_slice() == "prompt"
    bench.engine.cancel("text2")
    bench.open.discard("text2")
    assert not reader.group
    intruder = job("intruder", pixels=b"", question="Who? " * 4)  # it may get the slots of the one that went
    bench.finish(intruder)
    assert groups == [["text1", "text2", "text3"], ["text1", "text3", "intruder"]]
    for job_id in ("text1", "text3"):
        assert timeless(bench.result(job_id)) == timeless(alone[job_id])
    assert timeless(bench.result("intruder")) == timeless(make_bench().run(intruder))


@pytest.mark.slow
@pytest.mark.parametrize("error", [JobRejected("invalid_request", "no"), ValueError("odd")], ids=["rejected", "odd"])
def test_what_fails_together_is_read_one_by_one_and_fails_its_own_job(
    make_bench: Callable[..., Any], groups: list[list[str]], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected: dict[str, Any] = {one.job_id: make_bench().run(one) for one in TEXTS}
    del groups[:]
    prompt_rows = ChatRequest.prompt_rows

    def failing(self: ChatRequest) -> prefill.PromptRows:
        if self.job.job_id == "text2":
            raise error
        return prompt_rows(self)

    monkeypatch.setattr(ChatRequest, "prompt_rows", failing)
    bench = make_bench()
    bench.finish(*TEXTS)
    assert groups == [["text1", "text2", "text3"], ["text1"], ["text2"], ["text3"]]
    assert bench.failure("text2").code == ("invalid_request" if isinstance(error, JobRejected) else "job_failed")
    for job_id in ("text1", "text3"):
        assert timeless(bench.result(job_id)) == timeless(expected[job_id])
    later: list[ChatJob] = [job(f"later{number}", pixels=b"") for number in (1, 2)]
    bench.finish(*later)
    assert groups[-1] == ["later1", "later2"], "they are read together again"
