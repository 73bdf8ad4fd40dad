"""The atomic transitions: a script for each `transition` function of the .lua files beside this one.

A script is what the transition needs of what stands before the first one of its file, the transition itself, and its
call. It gets all keys that it uses as KEYS (keys.py) and its arguments as ARGV. A line `-- include NAME.lua` stands for
the definitions of another file.
"""

import hashlib
import re
from pathlib import Path

_MARK = "function transition."
_INCLUDE = re.compile(r"^-- include (\w+\.lua)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n|\s+--.*$", re.MULTILINE)
_DEFINED = re.compile(r"local (?:function )?(\w+(?:, \w+)*)")


def read_scripts(prelude: str = "") -> dict[str, str]:
    """Sources by the transitions' names, each after `prelude`."""
    sources = {}
    for path in sorted(Path(__file__).parent.glob("*.lua")):
        shared, *transitions = source_text(path).split(_MARK)
        for transition in transitions:
            name, own = transition[: transition.index("(")], _COMMENT.sub("", transition)
            needed = "".join(_needed(shared, own))
            sources[name] = f"{prelude}{needed}local function {own}\nreturn {name}(unpack(ARGV))\n"
    return sources


def source_text(path: Path) -> str:
    """Of a .lua file, with those that it includes."""
    return _INCLUDE.sub(lambda line: source_text(path.with_name(line[1])), path.read_text("utf-8"))


def _needed(shared: str, text: str) -> list[str]:
    """The definitions that a text uses, and those that these use.

    A server runs a script from its first line each time: what it does not need took half of a short one's time.
    """
    needed: list[str] = []
    for definition in reversed(re.split(r"^(?=local )", _COMMENT.sub("", shared), flags=re.MULTILINE)):
        defined = _DEFINED.match(definition)
        if defined and re.search(rf"\b({defined[1].replace(', ', '|')})\b", text):
            needed.insert(0, definition)
            text += definition
    return needed


def use_scripts(sources: dict[str, str]) -> None:
    """From now on, these are what `sha_of` and `source_of` tell."""
    for name, source in sources.items():
        sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        _shas[name], _sources[sha] = sha, source


def sha_of(name: str) -> str:
    return _shas[name]


def source_of(sha: object) -> str:
    return _sources[sha]


_shas: dict[str, str] = {}
_sources: dict[object, str] = {}
use_scripts(read_scripts())
