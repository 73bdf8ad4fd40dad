"""Headings, anchors and links of a page as the site shows them."""

import pytest

from docs.site.page_text import anchored, headings, linked

ENGLISH = "# One `key`\n\n```bash\n# no heading\n```\n\n## The [way](x.md) in\n\n### One key\n"


def test_headings_are_those_outside_of_code() -> None:
    assert headings(ENGLISH) == [(1, "One `key`"), (2, "The [way](x.md) in"), (3, "One key")]


def test_a_translated_heading_has_the_english_anchor() -> None:
    chinese = "# 一把密钥\n\n```bash\n# no heading\n```\n\n## 入口 {#way}\n\n### 还是密钥\n"
    lines = anchored(chinese, ENGLISH).split("\n")
    assert [line for line in lines if line.startswith("#") and "{:" in line] == [
        "# 一把密钥 {: #one-key }",
        "## 入口 {: #the-way-in }",
        "### 还是密钥 {: #one-key_1 }",
    ]
    assert "# no heading" in lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[all](jobs.md#a), [it](../safety/labels.md)", "[all](jobs.md#a), [it](../safety/labels.md)"),
        ("[其他](jobs.zh.md#a)", "[其他](jobs.md#a)"),
        ("see [its card](../../models/emoji/README.md#limits).", "see its card (`models/emoji/README.md`)."),
        ("[web](https://example.org/a.md)", "[web](https://example.org/a.md)"),
        ("![p](../images/a.png)", "![p](../images/a.png)"),
    ],
)
def test_links_lead_to_pages_or_name_files(text: str, shown: str) -> None:
    assert linked(text, "guides/page.md") == shown
