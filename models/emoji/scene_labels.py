"""What there is to see in an emoji scene, for a tower that learns to see."""

from collections.abc import Mapping, Sequence

from models.datasets.examples import UNLABELLED, LabelledPicture
from models.emoji.scenes.composition import MAX_COUNT
from models.emoji.scenes.grounds import COLOURS
from models.emoji.scenes.scene import Scene
from models.emoji.sources import EmojiConversations


class EmojiSceneLabels:
    """What the scenes of EmojiConversations show: what is left, or alone; what is right; the ground; how many.

    A LabelledPictureSource.

    Args:
        num_examples: how many of them; None for all.
    """

    def __init__(self, conversations: EmojiConversations, num_examples: int | None = None) -> None:
        self._conversations = conversations
        self._num_examples = len(conversations) if num_examples is None else num_examples
        self._places = {name: place for place, name in enumerate(conversations.names)}
        codes = [name.code for name in conversations.names]
        self.classes: Mapping[str, Sequence[str]] = {
            "left": codes,
            "right": codes,
            "colour": [colour.en for colour in COLOURS],
            "count": [str(count) for count in range(1, MAX_COUNT + 1)],
        }

    def __len__(self) -> int:
        return self._num_examples

    def labelled_picture(self, index: int, epoch: int) -> LabelledPicture:
        scene, _ = self._conversations.scene_and_rounds(index, epoch)
        return LabelledPicture(self._conversations.draw(scene), self._labels(scene))

    def _labels(self, scene: Scene) -> tuple[int, ...]:
        names = [self._places[placed.name] for placed in scene.objects]
        right = names[1] if scene.layout == "pair" else UNLABELLED
        return names[0], right, COLOURS.index(scene.ground.colour), len(names) - 1
