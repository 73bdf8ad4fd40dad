"""Sources of conversations by the names that the command line knows."""

from pathlib import Path

from models.finetune.examples import ConversationSource

EMOJI = "emoji"
NUM_EMOJI_EXAMPLES = 1_000_000  # of an epoch; those of the next are others
VALIDATION_SEED = 500_009  # apart from the seeds of training and of evaluation


def emoji_talks(image_size_px: int, seed: int, easy: float) -> ConversationSource:
    """Talks about composed scenes of the box's names, in the two drawing styles of training.

    Args:
        easy: share of examples with one large emoji on a plain ground, of which the name is asked alone.
    """
    from models.emoji.names import emoji_names
    from models.emoji.sources import TRAINING_SEED, EmojiTalks

    styles = ("twemoji", "noto")
    return EmojiTalks(emoji_names(), styles, image_size_px, TRAINING_SEED + seed, NUM_EMOJI_EXAMPLES, easy)


def conversation_source(
    data: str, images: Path | None, image_size_px: int, seed: int, easy: float
) -> ConversationSource:
    """The source called `emoji`."""
    if data == EMOJI:
        return emoji_talks(image_size_px, seed, easy)
    raise ValueError(f"--data {data}: not known; {EMOJI} is")
