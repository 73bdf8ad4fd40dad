"""`python -m docs.site.offline build/site`: whether built pages load anything from another host.

Sees what pages, style sheets and scripts name as a whole address: links that a reader may follow are no loads. An
address that a script puts together while it runs is not seen.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_WEB = re.compile(r"(https?:)?//")
_LOADING_LINKS = {
    "stylesheet",
    "icon",
    "preload",
    "modulepreload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "manifest",
}
_CSS = re.compile(r"""url\(\s*["']?((?:https?:)?//[^"')\s]+)|@import\s+["']((?:https?:)?//[^"']+)""")
_SCRIPT = re.compile(
    r"""(?:fetch|import|importScripts|Worker|EventSource|WebSocket)\(\s*["'`]((?:https?:|wss?:)?//[^"'`]+)"""
    r"""|\.src\s*=\s*["'`]((?:https?:)?//[^"'`]+)"""
)


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        sources = [given.get("src", ""), given.get("poster", ""), given.get("data", "") if tag == "object" else ""]
        sources += [part.split()[0] for part in given.get("srcset", "").split(",") if part.split()]
        if tag == "link" and _LOADING_LINKS & set(given.get("rel", "").split()):
            sources.append(given.get("href", ""))
        self.found += [source for source in sources if _WEB.match(source)]
        self.found += _first_groups(_CSS, given.get("style", ""))


def loads_from_elsewhere(folder: Path) -> list[str]:
    """A line for each address of another host that a file of a built site loads: `FILE: ADDRESS`."""
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text("utf-8")
            lines += [f"{path.relative_to(folder)}: {address}" for address in _addresses(text, path.suffix)]
    return lines


def _addresses(text: str, suffix: str) -> list[str]:
    if suffix == ".css":
        return _first_groups(_CSS, text)
    if suffix == ".js":
        return _first_groups(_SCRIPT, text)
    page = _Loads()
    page.feed(text)
    return page.found


def _first_groups(pattern: re.Pattern[str], text: str) -> list[str]:
    return [next(filter(None, match.groups())) for match in pattern.finditer(text)]


def main(folder: Path) -> int:
    """The exit code: 1 where something is loaded, or nothing was built."""
    pages = len(list(folder.rglob("*.html")))
    lines = loads_from_elsewhere(folder)
    told = lines or [f"{folder}: {pages} pages, which load nothing from another host"]
    sys.stdout.write("\n".join(told) + "\n")
    return 1 if lines or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
