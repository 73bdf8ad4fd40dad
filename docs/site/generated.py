"""Parts of the reference that are made of the code while the site is built: `<!-- generated: metrics -->` and its like.

Heads are in the page's language; descriptions are the code's own, English.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal

from docs.site.commands import commands_with_help
from service.core.errors import error_classes
from service.core.metrics import METRICS, PREFIX
from service.core.settings import Settings
from service.http.app import create_app

Language = Literal["en", "zh"]

_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_NONE = {"en": "none", "zh": "无"}


def filled(text: str, language: Language) -> str:
    """A page with the parts in the places that its comments name.

    Raises:
        KeyError: a comment names no part.
    """
    return _MARK.sub(lambda match: PARTS[match[1]](language), text)


def metrics(language: Language) -> str:
    """A table of all families."""
    heads = {
        "en": ("Metric", "Kind", "Of", "Labels", "Tells"),
        "zh": ("指标", "类型", "所属进程", "标签", "含义（英文）"),
    }
    return _table(
        heads[language],
        (
            (f"`{PREFIX}{metric.name}`", metric.kind, metric.owner, _code(metric.labels), metric.help)
            for metric in METRICS
        ),
    )


def errors(language: Language) -> str:
    """A table of all codes of errors, by their status."""
    heads = {
        "en": ("Code", "Status", "`type`", "When"),
        "zh": ("错误码", "状态码", "`type`", "何时出现（英文）"),
    }
    rows = sorted((kind.status, kind.code, kind.type, _when(kind.__doc__)) for kind in error_classes())
    return _table(heads[language], ((f"`{code}`", str(status), f"`{kind}`", when) for status, code, kind, when in rows))


def routes(language: Language) -> str:
    """A section for each tag: the routes, what they need and take."""
    heads = {
        "en": ("Route", "Does", "Key's scope", "Fields of the body", "Parameters"),
        "zh": ("路由", "作用（英文）", "密钥的权限", "请求体字段", "参数"),
    }
    described_api = _described_api()
    by_tag: dict[str, list[tuple[str, ...]]] = {}
    for path, methods in described_api["paths"].items():
        for method, route in methods.items():
            row = (
                f"`{method.upper()} {path}`",
                route["summary"],
                _scope(route.get("security", []), language),
                _code(_fields(route, described_api), ", "),
                _code(f"{given['name']}" for given in route.get("parameters", [])),
            )
            by_tag.setdefault(route["tags"][0], []).append(row)
    return "\n\n".join(f"## {tag}\n\n{_table(heads[language], rows)}" for tag, rows in by_tag.items())


def commands(language: Language) -> str:
    """A section for each command: its help, as the terminal shows it. In English for either language."""
    return "\n\n".join(f"## {name}\n\n```text\n{told}\n```" for name, told in _commands().items())


_commands = cache(commands_with_help)  # some take torch: seconds


@cache
def _described_api() -> dict[str, Any]:
    return create_app(Settings()).openapi()


PARTS: dict[str, Callable[[Language], str]] = {
    "metrics": metrics,
    "errors": errors,
    "routes": routes,
    "commands": commands,
}


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [list(heads), *(list(row) for row in rows)]
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def _code(names: Iterable[str], between: str = ", ") -> str:
    return between.join(f"`{name}`" for name in names)


def _when(docstring: str | None) -> str:
    """The first paragraph without the status, in one line."""
    first = " ".join((docstring or "").split("\n\n")[0].split())
    told = re.sub(r"^\d{3}[:.] *", "", first)
    return told[:1].upper() + told[1:]


def _scope(security: list[dict[str, list[str]]], language: Language) -> str:
    """Of the first way to present a key; each route's ways want the same."""
    any_key = {"en": "any key", "zh": "任意密钥"}
    if not security:
        return _NONE[language]
    (scopes,) = security[0].values()
    return _code(scopes) or any_key[language]


def _fields(route: dict[str, object], described_api: dict[str, object]) -> list[str]:
    """Names of the body's fields, of JSON where there is JSON."""
    content = _member(_member(route, "requestBody"), "content")
    for kind in ("application/json", "multipart/form-data"):
        if kind in content:
            return list(_properties(_member(_member(content, kind), "schema"), described_api))
    return []


def _properties(schema: dict[str, object], described_api: dict[str, object]) -> dict[str, None]:
    """Through references and combinations of schemas."""
    names: dict[str, None] = dict.fromkeys(_member(schema, "properties"))
    if isinstance(reference := schema.get("$ref"), str):
        named = _member(_member(described_api, "components"), "schemas")
        names |= _properties(_member(named, reference.rsplit("/", 1)[1]), described_api)
    for combination in ("allOf", "anyOf", "oneOf"):
        parts = schema.get(combination)
        for part in parts if isinstance(parts, list) else ():
            names |= _properties(part, described_api)
    return names


def _member(of: dict[str, object], name: str) -> dict[str, object]:
    member = of.get(name, {})
    return member if isinstance(member, dict) else {}
