"""The names of what screens look for: OpenAI's moderation categories and some of our own.

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
UNSAFE = "unsafe"  # what a screen refuses without saying why
# What guard models judge beyond these
ADVICE = "specialized-advice"  # medical, legal and financial advice that may harm who follows it
COPYRIGHT = "copyright"
JAILBREAK = "jailbreak"  # attempts to talk a model out of its rules
POLITICS = "politics"
PRIVACY = "privacy"  # somebody's personal data
GUARD_CATEGORIES = (ADVICE, COPYRIGHT, JAILBREAK, POLITICS, PRIVACY)
CATEGORIES = frozenset((*OPENAI_CATEGORIES, PROFANITY, UNSAFE, *GUARD_CATEGORIES))
