"""Answers in the shapes of chat completions, with their verdicts; and streams of a gate that is closed."""

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from safety.verdict import Picture, Stage, Verdict
from service.core.settings import Settings
from service.http.openai.completion import Completion, finish_reason, usage_of
from service.jobs.answers import ChatResponse, ChatUsage
from tests.service.web import Service, assert_error, encoded, serving, sse_events

COMPLETION = Completion("chatcmpl-1", 7, "gpt-4o", "sample", 3, ["chat-1", "chat-2"], stops=["two"])


class WordScreens:
    """Blocks texts with `w3` or `bad`."""

    are_open = False

    async def text(self, stage: Stage, text: str) -> Verdict:
        is_blocked = "bad" in text or "w3" in text
        return Verdict(stage, "block" if is_blocked else "pass", {"violence": float(is_blocked)}, "words")

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        return Verdict(stage, "pass", {"violence": 0.0}, "words")


def answer(text: str, tokens: int = 2, **fields: Any) -> ChatResponse:
    usage = ChatUsage(prompt_tokens=70, image_tokens=64, completion_tokens=tokens, total_tokens=70 + tokens)
    made = ChatResponse(
        id="chat-1",
        created=1,
        model="own",
        conversation_id="",
        answer=text,
        finish_reason="length",
        usage=usage,
        seed=3,
        image=True,
        vision_cached=True,
    )
    return msgspec.structs.replace(made, **fields)


def verdict(flagged: bool) -> dict[str, Any]:
    return {"type": "moderation_results", "model": "words", "results": [{"flagged": flagged}]}


def test_a_whole_answer_has_a_choice_for_each_job() -> None:
    whole = COMPLETION.whole([answer("one two"), answer("one", 5, vision_cached=False, dropped_turns=1)])
    assert [(one.message.content, one.finish_reason) for one in whole.choices] == [("one ", "stop"), ("one", "length")]
    assert (whole.id, whole.created, whole.model, whole.system_fingerprint) == ("chatcmpl-1", 1, "gpt-4o", "own")
    assert whole.usage.prompt_tokens_details.text_tokens == 6 and whole.moderation is UNSET
    told = whole.viscpm
    assert (told.search, told.seed, told.jobs, told.vision_cached) == ("sample", 3, ["chat-1", "chat-2"], False)


def test_a_talk_is_counted_once_and_its_answers_each() -> None:
    usage = usage_of([answer("a", 2), answer("b", 5)])
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (70, 7, 77)


def test_a_refusal_stays_one_where_it_is_cut() -> None:
    assert finish_reason(answer("a", finish_reason="content_filter"), is_cut=True) == "content_filter"
    assert finish_reason(answer("a"), is_cut=True) == "stop" and finish_reason(answer("a"), is_cut=False) == "length"


def test_verdicts_are_told_where_they_are_asked_for_or_something_is_refused() -> None:
    judged = {"flagged": False, "screens": ["words"], "input": verdict(False), "output": verdict(False)}
    passed = answer("a", moderation=judged)
    refused = answer("", finish_reason="content_filter", moderation={**judged, "output": verdict(True)})
    assert COMPLETION.verdicts([passed]) is UNSET
    told = COMPLETION.verdicts([passed, refused])
    assert told == {
        "input": verdict(False),
        "output": {**verdict(False), "results": [{"flagged": False}, {"flagged": True}]},
    }
    asking = Completion("c", 7, "m", "beam", 3, ["chat-1"], tells_verdicts=True)
    assert asking.include == ("moderation",) and asking.verdicts([answer("a")]) == {"input": None, "output": None}


async def complete(service: Service, *contents: str, **fields: Any) -> Any:
    messages: list[dict[str, Any]] = [
        {"role": ("user", "assistant")[index % 2], "content": content} for index, content in enumerate(contents)
    ]
    return await service.client.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": messages, **fields})


@pytest.mark.slow
async def test_nothing_blocked_leaves_and_nothing_blocked_gets_in(settings: Settings) -> None:
    async with serving(settings, WordScreens()) as service:
        await service.ready()
        for talk, stage in (
            (["bad"], "question"),
            (["echo a", "bad", "echo x"], "answer"),
            (["bad", "a", "b"], "question"),
        ):
            for stream in (False, True):
                refused = await complete(service, *talk, stream=stream)
                error = assert_error(refused, 400, "content_policy_violation", stage)
                assert error["moderation"]["input"]["results"][0]["flagged"] is True
        filtered = (await complete(service, "stream 5")).json()
        [choice] = filtered["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "")
        assert filtered["moderation"]["output"]["results"][0]["flagged"] is True
        assert filtered["viscpm"]["flagged"] is True
        *_, last, done = [data for _, data in sse_events((await complete(service, "stream 5", stream=True)).text)]
        assert last["choices"][0]["finish_reason"] == "content_filter" and done == "[DONE]"
        assert last["moderation"]["output"]["results"][0]["categories"] == {"violence": True}
        asked = (await complete(service, "echo fine", moderation={"model": "omni-moderation-latest"})).json()
        assert [asked["moderation"][part]["results"][0]["flagged"] for part in ("input", "output")] == [False, False]
        assert "moderation" not in (await complete(service, "echo fine")).json()
        picture = {"type": "image_url", "image_url": encoded()}
        content = [picture, {"type": "text", "text": "echo fine"}]
        seen = await complete(service, content, moderation={})  # type: ignore[arg-type]
        assert len(seen.json()["moderation"]["input"]["results"]) == 2
        assert await service.accounting() == {"refused": 8, "done": 3}
