"""MLCommons' hazards by the codes that Llama Guard and PolyGuard answer with, and the categories of ours they are.

Covered: S1 to S14 as Llama Guard 3 and 4 number them.
Not covered: earlier numberings: Llama Guard 1 and 2 have others.
"""

from collections.abc import Mapping

from safety.categories import ADVICE, COPYRIGHT, POLITICS, PRIVACY

HAZARDS: Mapping[str, tuple[str, ...]] = {
    "S1": ("violence", "illicit/violent"),  # violent crimes
    "S2": ("illicit",),  # non-violent crimes
    "S3": ("sexual", "illicit"),  # sex-related crimes
    "S4": ("sexual/minors",),  # child sexual exploitation
    "S5": ("harassment",),  # defamation
    "S6": (ADVICE,),
    "S7": (PRIVACY,),
    "S8": (COPYRIGHT,),  # intellectual property
    "S9": ("illicit/violent",),  # indiscriminate weapons
    "S10": ("hate",),
    "S11": ("self-harm",),
    "S12": ("sexual",),
    "S13": (POLITICS,),  # elections
    "S14": ("illicit",),  # code interpreter abuse
}
