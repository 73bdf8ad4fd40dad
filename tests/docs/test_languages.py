"""Both languages have the same pages, and the same headings, code, links, pictures and generated parts on each."""

import re
from pathlib import Path

import pytest

from docs.site.page_text import headings

DOCS = Path(__file__).parents[2] / "docs"

# Pages that may lack their translation for now
UNTRANSLATED: frozenset[str] = frozenset()

# Pages whose translation says less than the page, for now
BEHIND: frozenset[str] = frozenset()

ENGLISH = sorted(page for page in DOCS.rglob("*.md") if not page.name.endswith(".zh.md"))
CHINESE = sorted(DOCS.rglob("*.zh.md"))
_COMMENT = re.compile(r"<!-- not run: [^>]+ -->\n+")
_FENCE = re.compile(r"^( *)(`{3,})[^\n]*\n(.*?)^\1\2", re.MULTILINE | re.DOTALL)
_TARGET = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")


def test_each_page_has_both_languages() -> None:
    assert [page.name for page in CHINESE if not page.with_name(page.name.replace(".zh.md", ".md")).exists()] == []
    missing = {page.relative_to(DOCS).as_posix() for page in ENGLISH if not page.with_suffix(".zh.md").exists()}
    assert sorted(missing - UNTRANSLATED) == []


def test_every_page_is_in_the_sites_navigation() -> None:
    listed = re.findall(r"^ +- (?:\w+: )?([\w/-]+\.md)$", (DOCS.parent / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == [page.relative_to(DOCS).as_posix() for page in ENGLISH]


@pytest.mark.parametrize(
    "page", [name for page in ENGLISH if (name := page.relative_to(DOCS).as_posix()) not in BEHIND]
)
def test_a_page_says_the_same_in_both(page: str) -> None:
    chinese = (DOCS / page).with_suffix(".zh.md")
    if page in UNTRANSLATED and not chinese.exists():
        return
    ours, theirs = (DOCS / page).read_text("utf-8"), chinese.read_text("utf-8")
    assert [level for level, _ in headings(theirs)] == [level for level, _ in headings(ours)]
    assert code(theirs) == code(ours)
    assert targets(theirs) == targets(ours)
    assert re.findall(r"<!-- generated: \w+ -->", theirs) == re.findall(r"<!-- generated: \w+ -->", ours)
    assert theirs.count("\n|") == ours.count("\n|"), "rows of tables"
    assert len(re.findall("[\u4e00-\u9fff]", theirs)) > 20, "nothing in it is Chinese"


def code(text: str) -> list[str]:
    """Blocks of code without what a page says of them."""
    return [match[3] for match in _FENCE.finditer(_COMMENT.sub("", text))]


def targets(text: str) -> list[str]:
    """What a page links to and shows, either language's page of the same name being one; in no order, as words have."""
    found = [match[1] or match[2] for match in _TARGET.finditer(_FENCE.sub("", text))]
    return sorted(target.replace(".zh.md", ".md") for target in found)
