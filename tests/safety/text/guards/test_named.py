"""The adapters by name: what the settings and the policy call them."""

import pytest

from safety.categories import CATEGORIES
from safety.policy import GUARD_SCREENS, load_policy
from safety.text.guards.named import GUARD_NAMES, guard_adapter
from safety.verdict import Finding


@pytest.mark.parametrize("name", GUARD_NAMES)
def test_the_policy_knows_what_every_guard_may_say(name: str) -> None:
    adapter = guard_adapter(name)
    assert adapter.name == name and name in GUARD_SCREENS and adapter.model and adapter.languages
    categories = {category for named in adapter.labels.values() for category in named}
    assert categories <= CATEGORIES
    verdict = load_policy().decide("question", [Finding(name, dict.fromkeys(categories, 1.0), "v")])
    assert verdict.is_blocked and verdict.versions == {name: "v"}
    assert not load_policy().decide("question", [Finding(name, dict.fromkeys(categories, 0.5))]).is_blocked


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="qwen3guard.*granite-guardian, got 'gpt'"):
        guard_adapter("gpt")
