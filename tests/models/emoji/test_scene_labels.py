import numpy as np
import pytest

from models.datasets.examples import UNLABELLED
from models.emoji.names import EmojiName
from models.emoji.scene_labels import EmojiSceneLabels
from models.emoji.scenes.grounds import COLOURS
from models.emoji.sources import EmojiConversations


@pytest.mark.slow
def test_labels_say_what_the_scene_shows(names: tuple[EmojiName, ...]) -> None:
    conversations = EmojiConversations(names, ("twemoji",), 32, 1, 200)
    scene_labels = EmojiSceneLabels(conversations, 60)
    assert len(scene_labels) == 60 and len(EmojiSceneLabels(conversations)) == 200
    assert list(scene_labels.classes) == ["left", "right", "colour", "count"]
    layouts = set()
    for index in range(60):
        scene, _ = conversations.scene_and_rounds(index, 1)
        labelled = scene_labels.labelled_picture(index, 1)
        left, right, colour, count = labelled.labels
        layouts.add(scene.layout)
        assert names[left] == scene.objects[0].name
        assert (names[right] == scene.objects[1].name) if scene.layout == "pair" else right == UNLABELLED
        assert COLOURS[colour] == scene.ground.colour
        assert scene_labels.classes["colour"][colour] == scene.ground.colour.en
        assert int(scene_labels.classes["count"][count]) == len(scene.objects)
        np.testing.assert_array_equal(labelled.pixels, conversations.conversation(index, 1).pixels)
    assert layouts == {"single", "pair", "count"}
