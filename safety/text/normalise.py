"""Text as the rules read it: lower-case words between single spaces, Han characters simplified, disguises undone.

Covered: Unicode compatibility forms (full-width, mathematical and circled letters, radicals), case, invisible
characters, diacritics, letters of other scripts that look Latin, traditional characters, Han characters parted by
spaces or signs; and, as further readings beside the plain one, Latin letters parted by spaces or signs, digits and
signs for letters, letters repeated.
Not covered: words cut in two by a single space, homophones, split characters and pinyin (the rule files list the
common ones), text drawn with signs, other scripts' languages, meaning.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

from safety.text.language import HAN

# Letters that look Latin, in lower case, each pair written together.
_LOOK_ALIKES = (
    "аa вb сc ԁd еe һh нh іi јj кk ӏl мm оo рp ԛq ѕs тt уy ѵv ԝw хx ьb ёe їi үy"
    + " αa βb εe ηn ιi κk μm νv οo ρp τt υu χx ωw γy ζz ϲc ϳj"
    + " ոn օo սu հh ցg զq ƅb"
    + " ıi łl øo đd ħh ɑa ɡg ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz ǀl ’' ‘' ʼ'"
).split()
_LATIN_WITH_MARKS = (range(0xC0, 0x250), range(0x1E00, 0x1F00))
_LETTER_SIGNS = (range(0x1F130, 0x1F14A), range(0x1F150, 0x1F16A), range(0x1F170, 0x1F18A), range(0x1F1E6, 0x1F200))
_MARKS = (range(0x300, 0x370), range(0x20D0, 0x2100), range(0xFE00, 0xFE10), range(0xE0000, 0xE01F0))
_BLANKS = (0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0)

_NOT_WORD = re.compile("[^a-z0-9]+")
_ASCII_WORDS = str.maketrans({chr(code): " " for code in range(128) if not chr(code).isalnum()} | {"'": None})
_WORDS = re.compile(f"[a-z0-9]+|[{HAN}]+")
_LATIN = re.compile("[a-z0-9]")

# What may hide a word. Commas, stops and quotes between Han characters part clauses and prove nothing.
_CLAUSE_SIGNS = ",.。、!?;:\"'“”()《》〈〉【】「」『』…—"
_HAN_SIGNS = f"[^\\w{re.escape(_CLAUSE_SIGNS)}]|[._]"
_PARTED_HAN = re.compile(f"(?<=[{HAN}])(?:{_HAN_SIGNS})+(?=[{HAN}])")
_LONE_HAN = re.compile(f"(?<![{HAN}])[{HAN}](?:[^\\w]{{1,3}}[{HAN}](?![{HAN}]))+")
_PARTED_LATIN = re.compile(r"(?<=[a-z0-9])[*._\-|/~^+=#·•]+(?=[a-z0-9])")
_LONE_LATIN = re.compile(f"(?<![a-z0-9])[a-z0-9](?:[^a-z0-9@$!{HAN}]{{1,3}}[a-z0-9](?![a-z0-9])){{2,}}")
_LEET_WORD = re.compile(r"(?<![a-z0-9@$!])(?=[0-9@$!]*[a-z])[a-z0-9@$!]*[a-z0-9@$]")
_LEET_SIGN = re.compile(r"[0134578@$!]")
_REPEATED = re.compile(r"([a-z])\1{2,}")
_HAN_DISGUISED = re.compile(f"{_PARTED_HAN.pattern}|(?<![{HAN}])[{HAN}][^\\w]{{1,3}}[{HAN}](?![{HAN}])")
# What hides Latin words is looked for in three, of which the first leaves most texts to the others
_LATIN_SIGN = re.compile(r"[*._\-|/~^+=#·•0134578@$!]")
_LATIN_SIGNS_WITHIN = re.compile(f"{_PARTED_LATIN.pattern}|[a-z][0134578@$!]|[0134578@$!][a-z]")
_LONE_LETTERS = re.compile(f"(?<![a-z0-9])[a-z0-9][^a-z0-9@$!{HAN}]{{1,3}}[a-z0-9](?![a-z0-9])")
_LEET = str.maketrans("034578@$", "oeastbas")
_LEET_I = {ord("1"): "i", ord("!"): "i"}
_LEET_L = {ord("1"): "l", ord("!"): "l"}


def fold(text: str) -> str:
    """One spelling for each letter: NFKC, lower case, look-alikes to Latin, traditional to simplified."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text).lower().translate(_table())


def separate(folded: str) -> str:
    """Words and runs of Han characters between single spaces, one space at both ends."""
    if folded.isascii():
        return f" {' '.join(folded.translate(_ASCII_WORDS).split())} "
    return f" {' '.join(_WORDS.findall(folded.replace(chr(39), '')))} "


def readings(text: str, split: Callable[[str], str] = str) -> list[str]:
    """The text as `separate` gives it, Han characters rejoined; where Latin letters look disguised, also undisguised.

    Args:
        split: parts a word that was written letter by letter, its spaces lost, into the words it holds.
    """
    folded = fold(text)
    if not folded.isascii() and _HAN_DISGUISED.search(folded):
        folded = _LONE_HAN.sub(lambda match: "".join(_WORDS.findall(match[0])), _PARTED_HAN.sub("", folded))
    read = [separate(folded)]
    if _is_latin_disguised(folded):
        for ones in (_LEET_I, _LEET_L) if "1" in folded or "!" in folded else (_LEET_I,):
            reading = separate(_undisguise(folded, ones, split))
            if reading not in read:
                read.append(reading)
    return read


def _is_latin_disguised(folded: str) -> bool:
    if not _LATIN.search(folded):
        return False
    if _LATIN_SIGN.search(folded) and _LATIN_SIGNS_WITHIN.search(folded):
        return True
    return bool(_LONE_LETTERS.search(folded) or _REPEATED.search(folded))


def _undisguise(folded: str, ones: dict[int, str], split: Callable[[str], str]) -> str:
    def plain(match: re.Match[str]) -> str:
        word = match[0]
        return word.translate(_LEET).translate(ones) if _LEET_SIGN.search(word) else word

    def joined(match: re.Match[str]) -> str:
        return split(_LEET_WORD.sub(plain, _NOT_WORD.sub("", match[0])))

    text = _PARTED_LATIN.sub("", _LONE_LATIN.sub(joined, folded))
    return _REPEATED.sub(r"\1", _LEET_WORD.sub(plain, text))


@cache
def _table() -> dict[int, str | None]:
    """What replaces a character after NFKC and lower case; None removes it."""
    table: dict[int, str | None] = {**_simplified()}
    for code in (code for codes in _LATIN_WITH_MARKS for code in codes):
        base = unicodedata.normalize("NFD", chr(code))[0]
        if base.isascii():
            table[code] = base.lower()
    table |= {ord(pair[0]): pair[1] for pair in _LOOK_ALIKES}
    for codes in _LETTER_SIGNS:
        table |= {code: chr(ord("a") + place) for place, code in enumerate(codes)}
    table |= {ord("ß"): "ss", ord("æ"): "ae", ord("œ"): "oe"}
    removed = [code for codes in _MARKS for code in codes] + list(_BLANKS)
    removed += [code for code in range(0x80, 0x10000) if unicodedata.category(chr(code)) == "Cf"]
    return table | dict.fromkeys(removed)


def _simplified() -> dict[int, str]:
    """Traditional to simplified characters, one to one, from the tables of OpenCC (Apache-2.0)."""
    package = distribution("opencc-python-reimplemented")
    lines = Path(str(package.locate_file("opencc/dictionary/TSCharacters.txt"))).read_text("utf-8").splitlines()
    pairs = (line.split("\t") for line in lines if line)
    return {ord(traditional): simplified.split()[0] for traditional, simplified in pairs if len(traditional) == 1}
