"""Requirements of extras, one a line: `requirements.py [EXTRA …] < pyproject.toml`.

Images install them before any source is copied, so that a change of the source installs nothing again.
"""

import re
import sys
import tomllib

_OWN_EXTRAS = re.compile(r"viscpm-service\[([\w,-]+)\]")


def requirements(project: dict, extras: list[str]) -> list[str]:
    """The project's own ones, then those of the extras and of the extras that these name."""
    found, left = list(project["dependencies"]), list(extras)
    while left:
        for requirement in project["optional-dependencies"][left.pop(0)]:
            own = _OWN_EXTRAS.fullmatch(requirement)
            if own:
                left += own[1].split(",")
            else:
                found.append(requirement)
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    print("\n".join(requirements(tomllib.load(sys.stdin.buffer)["project"], sys.argv[1:])))
