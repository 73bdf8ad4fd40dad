"""What the reference is made of: every metric, error, route and command, in both languages."""

import re
from typing import get_args

import pytest

from docs.site.generated import PARTS, Language, filled
from service.core.errors import codes_of, error_classes
from service.core.metrics import METRICS, PREFIX
from tests.docs.examples import ROOT

LANGUAGES: tuple[Language, ...] = get_args(Language)


def rows(part: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in part.split("\n") if line.startswith("| `")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_metric_is_told(language: Language) -> None:
    told = {row[0].strip("`"): row for row in rows(PARTS["metrics"](language))}
    assert list(told) == [PREFIX + metric.name for metric in METRICS]
    assert told["viscpm_requests_total"][1:] == ["counter", "api", "`route`, `outcome`", "Requests answered."]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_error_is_told_with_what_it_means(language: Language) -> None:
    told = rows(PARTS["errors"](language))
    assert sorted(row[0].strip("`") for row in told) == sorted(kind.code for kind in error_classes())
    assert all(row[0].strip("`") in codes_of(int(row[1])) for row in told)
    silent = [row[0] for row in told if len(row) < 4 or len(row[3]) < 10]
    assert silent == [], "the first line of these classes' docstrings says nothing"


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_route_is_told_with_its_scope_and_fields(language: Language) -> None:
    part = PARTS["routes"](language)
    told = {row[0].strip("`"): row for row in rows(part)}
    described = (ROOT / "openapi.yaml").read_text("utf-8").split("\ncomponents:")[0]
    paths = re.split(r"^  (/\S*):$", described, flags=re.MULTILINE)[1:]
    methods = {
        path: re.findall(r"^    ([a-z]+):$", text, re.MULTILINE)
        for path, text in zip(paths[::2], paths[1::2], strict=True)
    }
    assert set(told) == {f"{method.upper()} {path}" for path in methods for method in methods[path]}
    chat, live = told["POST /chat"], told["GET /health/live"]
    assert chat[2] == "`chat`" and "`question`" in chat[3] and "`Idempotency-Key`" in chat[4]
    assert live[2] == {"en": "none", "zh": "无"}[language]
    assert told["GET /jobs"][2] == {"en": "any key", "zh": "任意密钥"}[language]


@pytest.mark.slow
def test_heads_are_in_the_pages_language() -> None:
    for name in ("metrics", "errors", "routes"):
        english, chinese = (PARTS[name](language).split("\n") for language in LANGUAGES)
        assert len(english) == len(chinese)
        differing = [one for one, other in zip(english, chinese, strict=True) if one != other]
        assert differing and all("|" in line for line in differing)


def test_a_comment_becomes_its_part_and_an_unknown_one_fails() -> None:
    assert filled("a\n<!-- generated: errors -->\nb", "en") == f"a\n{PARTS['errors']('en')}\nb"
    with pytest.raises(KeyError):
        filled("<!-- generated: weather -->", "en")


def test_every_part_has_its_page() -> None:
    pages = [path.read_text("utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")]
    for name in PARTS:
        assert sum(f"<!-- generated: {name} -->" in page for page in pages) == len(LANGUAGES)
