"""The atomic transitions: a script for each `transition` function of the .lua files beside this one.

A script is what stands before the first transition of its file, the transition itself, and its call. It gets all keys
that it uses as KEYS (keys.py) and its arguments as ARGV.
"""

import hashlib
from pathlib import Path

_MARK = "function transition."


def read_scripts(prelude: str = "") -> dict[str, str]:
    """Sources by the transitions' names, each after `prelude`."""
    sources = {}
    for path in sorted(Path(__file__).parent.glob("*.lua")):
        shared, *transitions = path.read_text("utf-8").split(_MARK)
        for transition in transitions:
            name = transition[: transition.index("(")]
            sources[name] = f"{prelude}{shared}local function {transition}\nreturn {name}(unpack(ARGV))\n"
    return sources


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
