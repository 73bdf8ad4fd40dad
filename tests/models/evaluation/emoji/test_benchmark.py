"""The questions of the benchmark."""

from models.emoji.names import bundled_names
from models.emoji.scenes.renderer import Renderer
from models.evaluation.emoji.benchmark import named_items


def test_compositions_are_a_function_of_the_seed() -> None:
    renderer, names = Renderer(["twemoji"]), bundled_names()[:3]
    items = named_items(renderer, names, "twemoji", seed=5, per_name=2)
    assert items == named_items(renderer, names, "twemoji", seed=5, per_name=2)
    assert items != named_items(renderer, names, "twemoji", seed=6, per_name=2)
    assert [(item.name, item.rounds[0].language) for item in items[:5]] == [
        (names[0], "en"),
        (names[0], "zh"),
        (names[0], "en"),
        (names[0], "zh"),
        (names[1], "en"),
    ]
    for item in items:
        assert [one.kind for one in item.rounds] == ["name", "translate"]
        assert item.rounds[0].language != item.rounds[1].language
