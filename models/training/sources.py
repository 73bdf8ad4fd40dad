"""Sources of conversations by the names that the command line knows: composed emoji, or a file in LLaVA's layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.datasets.examples import Conversation, ConversationSource
from models.datasets.llava import LlavaConversations

if TYPE_CHECKING:
    from models.emoji.sources import EmojiConversations, Lessons

EMOJI = "emoji"
NUM_EMOJI_EXAMPLES = 4096  # of an epoch; those of the next are others
VALIDATION_SEED = 500_009  # apart from the seeds of training and of evaluation


@dataclass(frozen=True)
class DataSettings:
    """What conversations are learnt from."""

    data: str  # a file, or `emoji`
    images: Path | None = None
    seed: int = 0
    lessons: "Lessons | None" = None  # of emoji: what the first conversations are about
    replay: float = 0.0  # share of emoji conversations among the file's
    is_augmented: bool = True
    min_side_px: int = 128
    num_validation: int = 0


@dataclass(frozen=True)
class Listed:
    """Conversations that are at hand, as a source."""

    conversations: Sequence[Conversation]

    def __len__(self) -> int:
        return len(self.conversations)

    def conversation(self, index: int, epoch: int) -> Conversation:
        return self.conversations[index]


@dataclass(frozen=True)
class ConversationSubset:
    """Some examples of a source, as a source."""

    source: ConversationSource
    indices: range

    def __len__(self) -> int:
        return len(self.indices)

    def conversation(self, index: int, epoch: int) -> Conversation:
        return self.source.conversation(self.indices[index], epoch)


@dataclass(frozen=True)
class Mixed:
    """A source, and in every epoch `num_replayed` examples of another, others each time."""

    source: ConversationSource
    replayed: ConversationSource
    num_replayed: int

    def __len__(self) -> int:
        return len(self.source) + self.num_replayed

    def conversation(self, index: int, epoch: int) -> Conversation:
        if index < len(self.source):
            return self.source.conversation(index, epoch)
        count = epoch * self.num_replayed + index - len(self.source)
        replayed_epoch, replayed_index = divmod(count, len(self.replayed))
        return self.replayed.conversation(replayed_index, replayed_epoch)


def conversation_sources(
    settings: DataSettings, image_size_px: int
) -> tuple[ConversationSource, ConversationSource | None]:
    """What is learnt from, and what is validated on: of a file the last `num_validation` conversations.

    Raises:
        ValueError: the data cannot be used.
    """
    num_validation = settings.num_validation
    if settings.data == EMOJI:
        training = emoji_conversations(image_size_px, settings.seed, settings.lessons)
        others = emoji_conversations(image_size_px, settings.seed + VALIDATION_SEED)
        return training, ConversationSubset(others, range(num_validation)) if num_validation else None
    if not 0 <= settings.replay < 1:
        raise ValueError(f"the share of replayed examples is {settings.replay}; it must be 0 or more and under 1")
    file = Path(settings.data)
    conversations = LlavaConversations.read(
        file, settings.images, image_size_px, settings.seed, settings.is_augmented, settings.min_side_px
    )
    num_training = len(conversations) - num_validation
    if num_training < 1:
        raise ValueError(
            f"{file}: {len(conversations)} conversations, of which {num_validation} are to be validated on"
        )
    source: ConversationSource = ConversationSubset(conversations, range(num_training))
    if settings.replay:
        num_replayed = round(num_training * settings.replay / (1 - settings.replay))
        source = Mixed(source, emoji_conversations(image_size_px, settings.seed), num_replayed)
    held_out = range(num_training, len(conversations))
    return source, ConversationSubset(conversations.unchanged(), held_out) if num_validation else None


def emoji_conversations(image_size_px: int, seed: int, lessons: "Lessons | None" = None) -> "EmojiConversations":
    """Talks about composed scenes of the box's names, in those of the two drawing styles of training that are here."""
    from models.emoji.drawings import installed_styles
    from models.emoji.names import bundled_names
    from models.emoji.sources import TRAINING_SEED, EmojiConversations

    styles = installed_styles(("twemoji", "noto"))
    return EmojiConversations(bundled_names(), styles, image_size_px, TRAINING_SEED + seed, NUM_EMOJI_EXAMPLES, lessons)


def spellings_alike(data: str) -> list[tuple[str, ...]]:
    """What spells one name in different ways, for a model that begins with random weights; nothing for a file."""
    from models.emoji.names import bundled_names
    from models.emoji.texts.vocabulary import spellings

    return [spellings(name) for name in bundled_names()] if data == EMOJI else []
