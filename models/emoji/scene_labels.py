"""What there is to see in an emoji scene, for a tower that learns to see."""

from collections.abc import Mapping, Sequence

from models.datasets.examples import UNSEEN, Sight
from models.emoji.scenes.composition import MAX_COUNT
from models.emoji.scenes.grounds import COLOURS
from models.emoji.scenes.scene import Scene
from models.emoji.sources import EmojiConversations


class EmojiSights:
    """The scenes of EmojiConversations (a SightSource): what is left, or alone; what is right; the ground; how many.

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

    def sight(self, index: int, epoch: int) -> Sight:
        scene, _ = self._conversations.scene_and_rounds(index, epoch)
        return Sight(self._conversations.draw(scene), self._labels(scene))

    def _labels(self, scene: Scene) -> tuple[int, ...]:
        names = [self._places[placed.name] for placed in scene.objects]
        right = names[1] if scene.layout == "pair" else UNSEEN
        return names[0], right, COLOURS.index(scene.ground.colour), len(names) - 1
