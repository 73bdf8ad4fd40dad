"""Settings with where they come from, and what is wrong with them: values, names, an env file that is not there."""

import os
import re

from pydantic import ValidationError

from service.core.environment.env_file import VARIABLE, env_file, env_file_variables
from service.core.redis_url import parse_redis_url
from service.core.settings import Settings, wrong_settings
from service.core.unknown_variables import unknown_variables
from service.doctor.findings import Finding, SettingSource, ok, problem

_CHECK = "settings"


def check_settings() -> tuple[Settings | None, list[Finding]]:
    """The settings, None where they cannot be used, and what there is to say of them."""
    try:
        file = env_file(os.environ)
    except FileNotFoundError as error:
        fix = f"write it (`viscpm setup`), correct {VARIABLE}, or unset it"
        return None, [problem(_CHECK, str(error), f"{VARIABLE} names a file, and settings were meant to be in it", fix)]
    findings = _unknown()
    try:
        settings = Settings(_env_file=file, _env_file_encoding="utf-8")
    except ValidationError as error:
        return None, findings + [_wrong(line) for line in wrong_settings(error)]
    given = len(settings.model_fields_set)
    findings.append(ok(_CHECK, f"{given} set, all others as by default" + (f"; env file {file}" if file else "")))
    return settings, findings


def _wrong(line: str) -> Finding:
    named = re.search(r"(VISCPM|CUDA)_[A-Z0-9_]+", line)
    variable = named[0] if named else ""
    return problem(
        _CHECK,
        line,
        f"{variable or 'a setting'} ({_source(variable)}) holds what it cannot be, and no process starts with it",
        f"correct or unset it: docs/reference/configuration.md says what {variable or 'it'} may be",
    )


def _unknown() -> list[Finding]:
    line = unknown_variables({**env_file_variables(os.environ), **os.environ})
    if not line:
        return []
    renamed = re.findall(r"(\w+) \(did you mean (\w+)\?\)", line)
    fix = "; ".join(f"rename {wrong} to {right}" for wrong, right in renamed)
    return [
        problem(
            _CHECK,
            line,
            "nothing reads a variable of that name, so what was meant has its default",
            fix or "remove it, or see docs/reference/configuration.md for the name",
        )
    ]


def setting_sources(settings: Settings, is_all: bool) -> list[SettingSource]:
    """Those that somebody set, or all."""
    sources = []
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"VISCPM_{name.upper()}")
        source = _source(variable)
        if is_all or source != "default":
            sources.append(SettingSource(variable, _told(name, getattr(settings, name)), source))
    return sources


def _source(variable: str) -> str:
    if variable in {name.upper() for name in os.environ}:
        return "environment"
    return "env file" if variable in {name.upper() for name in env_file_variables(os.environ)} else "default"


def _told(name: str, value: object) -> str:
    if name == "redis_url" and value:
        return str(parse_redis_url(str(value)))  # without credentials
    if name == "api_key" and value:
        return "…"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
