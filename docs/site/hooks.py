"""What MkDocs asks while it builds the site: the links, headings and generated parts of a page's text."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from docs.site.generated import filled
from docs.site.page_text import anchored, linked


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A page's text as the site shows it."""
    source = page.file.src_uri
    if source.endswith(".zh.md"):
        english = Path(config.docs_dir, source.replace(".zh.md", ".md")).read_text("utf-8")
        markdown = anchored(markdown, english)
    return filled(linked(markdown, source), "zh" if source.endswith(".zh.md") else "en")
