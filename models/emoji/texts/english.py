"""English articles for the emoji's names: which take a or an, which stand alone, which are many."""

from models.emoji.names import EmojiName

_PLURAL = frozenset(
    """
    admission tickets|flower playing cards|skis|nesting dolls|Japanese dolls|sparkles|fireworks|performing arts
    paw prints|grapes|cherries|french fries|clinking beer mugs|clinking glasses|peanuts|pancakes|chopsticks|blueberries
    beans|control knobs|film frames|musical notes|glasses|jeans|woman's clothes|books|bookmark tabs|prayer beads
    linked paperclips|sunglasses|card index dividers|shopping bags|goggles|gloves|socks|ballet shoes|briefs|shorts
    maracas|bubbles|crossed swords|chains|scissors|houses|hot springs
    """.strip()
    .replace("\n", "|")
    .replace("    ", "")
    .split("|")
)
# Substances, sports, weather, states and proper names.
_BARE = frozenset(
    """
    tennis|field hockey|ice hockey|ping pong|badminton|bowling|lacrosse|thread|yarn|coral|meat on bone|cooked rice
    curry rice|spaghetti|bread|oden|sushi|dango|shaved ice|ice cream|soft ice cream|candy|custard|cooking|sake|popcorn
    bacon|ginger root|canned food|salt|garlic|falafel|butter|mate|ice|bubble tea|fondue|pouring liquid|broccoli|foggy
    fog|camping|building construction|construction|fire|wood|luggage|mount fuji|Tokyo tower|light rail|high voltage
    money with wings|soap|locked|unlocked|locked with pen|locked with key|dna
    """.strip()
    .replace("\n", "|")
    .replace("    ", "")
    .split("|")
)
_THE = frozenset({"milky way", "Statue of Liberty", "kaaba", "sun"})
_A_BEFORE_VOWEL = ("euro", "ewe", "one-", "uni")
_AN_BEFORE_CONSONANT = ("hourglass", "x-ray")


def noun_phrase(name: EmojiName) -> str:
    """The name as the subject of a sentence is first spoken of: `a red apple`, `an onion`, `grapes`, `bread`."""
    if name.en in _PLURAL or name.en in _BARE:
        return name.en
    if name.en in _THE:
        return f"the {name.en}"
    return f"{article(name.en)} {name.en}"


def definite_phrase(name: EmojiName) -> str:
    """The name as something known, with its verb: `is the red apple`, `are the grapes`."""
    return f"{'are' if name.en in _PLURAL else 'is'} the {name.en}"


def article(words: str) -> str:
    """`a` or `an`, by the sound that the words begin with."""
    if words.startswith(_AN_BEFORE_CONSONANT):
        return "an"
    if words[0].lower() in "aeiou" and not words.startswith(_A_BEFORE_VOWEL):
        return "an"
    return "a"


def sentence(words: str) -> str:
    """Words with a capital first letter and a full stop."""
    return f"{words[0].upper()}{words[1:]}."
