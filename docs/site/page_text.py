"""The text of a page: its headings, and the links that the site has no page for.

Knows Markdown as the documents use it: headings with `#`, blocks of code in fences.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from markdown.extensions.toc import slugify, unique

_HEADING = re.compile(r"^(#{1,6}) +(.*?) *$")
_OWN_ANCHOR = re.compile(r" *\{:? *#[^}]*\} *$")
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
_WEB = re.compile(r"[a-z]+:")


def headings(text: str) -> list[tuple[int, str]]:
    """Level and text of each heading, in order; lines within blocks of code are none."""
    found = (_HEADING.match(line) for line, is_code in _lines(text) if not is_code)
    return [(len(match[1]), match[2]) for match in found if match]


def anchored(text: str, english: str) -> str:
    """A translated page, each heading with the anchor of the same one on the English page: one link fits both."""
    used: set[str] = set()
    anchors = iter([unique(slugify(_plain(title), "-"), used) for _, title in headings(english)])
    lines = []
    for line, is_code in _lines(text):
        anchor = next(anchors, "") if not is_code and _HEADING.match(line) else ""
        lines.append(f"{_OWN_ANCHOR.sub('', line)} {{: #{anchor} }}" if anchor else line)
    return "\n".join(lines)


def linked(text: str, source: str) -> str:
    """A page, links to files outside of `docs/` being their paths, and links to a translated page that to the page.

    Args:
        source: the page's path within `docs/`.
    """

    def as_site(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        if _WEB.match(target):
            return match[0]
        path = _normal(PurePosixPath("docs", source).parent / target)
        if path.split("/")[0] != "docs":
            return f"] (`{path}`)"
        return f"]({target.removesuffix('.zh.md') + '.md' if target.endswith('.zh.md') else target}{anchor})"

    whole = _LINK.sub(as_site, text)
    return re.sub(r"\[([^\]]*)\] \(`", r"\1 (`", whole)


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _plain(title: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    fence = ""
    for line in text.split("\n"):
        mark = re.match(r" *(`{3,}|~{3,})", line)
        if fence:
            yield line, True
            if mark and mark[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        else:
            fence = mark[1] if mark else ""
            yield line, bool(mark)
