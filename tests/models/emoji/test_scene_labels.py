import numpy as np

from models.datasets.examples import UNSEEN
from models.emoji.names import EmojiName
from models.emoji.scene_labels import EmojiSights
from models.emoji.scenes.grounds import COLOURS
from models.emoji.sources import EmojiConversations


def test_labels_say_what_the_scene_shows(names: tuple[EmojiName, ...]) -> None:
    conversations = EmojiConversations(names, ("twemoji",), 32, 1, 200)
    sights = EmojiSights(conversations, 60)
    assert len(sights) == 60 and len(EmojiSights(conversations)) == 200
    assert list(sights.classes) == ["left", "right", "colour", "count"]
    layouts = set()
    for index in range(60):
        scene, _ = conversations.scene_and_rounds(index, 1)
        sight = sights.sight(index, 1)
        left, right, colour, count = sight.labels
        layouts.add(scene.layout)
        assert names[left] == scene.objects[0].name
        assert (names[right] == scene.objects[1].name) if scene.layout == "pair" else right == UNSEEN
        assert COLOURS[colour] == scene.ground.colour
        assert sights.classes["colour"][colour] == scene.ground.colour.en
        assert int(sights.classes["count"][count]) == len(scene.objects)
        np.testing.assert_array_equal(sight.pixels, conversations.conversation(index, 1).pixels)
    assert layouts == {"single", "pair", "count"}
