"""From a guard's labels to our categories, and what makes a guard another one."""

import pytest

from safety.text.guards.adapter import UnreadableAnswer, adapter_version, asked_scores, category_scores
from safety.text.guards.llama_guard import LlamaGuard
from safety.text.guards.qwen3guard import Qwen3Guard


def test_every_category_that_a_guard_judges_has_a_score() -> None:
    safe = category_scores(Qwen3Guard(), {})
    assert set(safe.values()) == {0.0} and {"violence", "illicit/violent", "politics", "unsafe"} <= set(safe)
    unsafe = category_scores(Qwen3Guard(), {"Violent": 1.0, "PII": 0.5})
    assert unsafe == safe | {"violence": 1.0, "illicit/violent": 1.0, "privacy": 0.5}
    assert category_scores(Qwen3Guard(), {"": 1.0}) == safe | {"unsafe": 1.0}


def test_a_label_that_it_does_not_have_is_unreadable() -> None:
    with pytest.raises(UnreadableAnswer, match="qwen3guard has the labels Violent"):
        asked_scores(Qwen3Guard(), "Safety: Unsafe\nCategories: Bad Manners", "user")


def test_an_answer_that_never_decides_is_unreadable() -> None:
    class Silent(Qwen3Guard):
        def read(self, answer: str, role: str, is_over: bool) -> None:
            return None

    with pytest.raises(UnreadableAnswer, match="no verdict"):
        asked_scores(Silent(), "Safety: Safe", "user")


def test_another_map_question_or_grammar_is_another_version() -> None:
    class OtherMap(Qwen3Guard):
        labels = {**Qwen3Guard.labels, "Violent": ("violence",)}

    class OtherQuestion(Qwen3Guard):
        def messages(self, text: str, role: str) -> list[dict[str, str]]:
            return [{"role": "system", "content": "Judge."}, *super().messages(text, role)]

    versions = [adapter_version(guard) for guard in (Qwen3Guard(), OtherMap(), OtherQuestion())]
    versions += [adapter_version(LlamaGuard(name, "m")) for name in ("llama-guard-3", "llama-guard-4")]
    assert len(set(versions)) == 5 and adapter_version(Qwen3Guard()) == versions[0]
