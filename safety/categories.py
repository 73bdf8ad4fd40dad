"""The names of what screens look for: OpenAI's moderation categories and two of our own.

Covered here: the names alone. Which screen judges which of them is the screen's; what follows, the policy's.
"""

OPENAI_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
PROFANITY = "profanity"  # coarse words without a target
UNSAFE = "unsafe"  # what a checker refuses without saying why
CATEGORIES = frozenset((*OPENAI_CATEGORIES, PROFANITY, UNSAFE))
