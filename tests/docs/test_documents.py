"""The documents say what the code does: every variable with its default, and both READMEs alike."""

import re
from pathlib import Path

from service.core.errors import codes_of
from service.core.settings import Settings

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| (?:`([^`]*)`)? ?\| (.+) \|$", re.MULTILINE)


def test_every_variable_is_documented_with_its_default() -> None:
    rows = ROW.findall((ROOT / "docs/reference/configuration.md").read_text())
    documented = {name: default for name, default, _ in rows}
    assert len(documented) == len(rows), "one row for each"
    defined = {
        str(field.validation_alias or f"VISCPM_{name.upper()}"): _as_written(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert documented == defined


def test_every_error_code_is_documented_with_its_status() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", (ROOT / "docs/reference/api.md").read_text(), re.MULTILINE)
    documented = {int(status): codes for statuses, codes in rows for status in statuses.split(",")}
    for status in range(400, 600):
        for code in codes_of(status):
            assert f"`{code}`" in documented[status], f"docs/reference/api.md lacks {code}, {status}"


def _as_written(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_both_readmes_have_the_same_sections_and_code() -> None:
    english, chinese = ((ROOT / name).read_text() for name in ("README.md", "README.zh.md"))
    for pattern in (r"^(#+) ", r"```.*?```", r"\]\(([^)]+)\)"):
        flags = re.MULTILINE | re.DOTALL
        ours, theirs = re.findall(pattern, english, flags), re.findall(pattern, chinese, flags)
        if pattern.startswith(r"\]"):  # each links to the other one
            ours, theirs = (
                [link for link in links if "README" not in link and not link.startswith("#")]
                for links in (ours, theirs)
            )
        assert ours == theirs


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_every_source_path_in_the_documents_exists() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("models/emoji/viscpm-emoji/*.md")]:
        for path in re.findall(r"`((?:service|models|safety|tests|benchmarks|docker)/[\w./-]+)`", document.read_text()):
            assert (ROOT / path).exists(), f"{document.name} names {path}"


def test_a_chat_request_is_told_in_few_hops_that_follow_the_rooms() -> None:
    text = (ROOT / "docs/reference/architecture.md").read_text()
    hops = re.findall(r"^\d+\. `([^`]+)`", text[text.index("## One request") : text.index("## Rooms")], re.MULTILINE)
    assert 10 <= len(hops) <= 14
    assert len(set(hops)) == len(hops), "a request crosses no file twice"
