"""Sources by the names that the command line knows."""

from pathlib import Path

from models.finetune.examples import ConversationSource

EMOJI = "emoji"
NUM_EMOJI_EXAMPLES = 1_000_000  # of an epoch: scenes do not come twice
EMOJI_CHAT_STYLES = ("twemoji", "noto")


def conversation_source(data: str, images: Path | None, image_size_px: int, seed: int) -> ConversationSource:
    """The source called `emoji`, or a file in LLaVA's layout.

    Raises:
        ValueError: the file holds no conversations.
    """
    from models.emoji.names import emoji_names
    from models.emoji.sources import EmojiTalks

    return EmojiTalks(emoji_names(), EMOJI_CHAT_STYLES, image_size_px, seed, NUM_EMOJI_EXAMPLES)
