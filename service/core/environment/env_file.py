"""The file of VISCPM_* variables that the environment does not set, `NAME=value` a line: `viscpm setup` writes it."""

from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values  # comes with pydantic-settings, which reads such files by it

VARIABLE = "VISCPM_ENV_FILE"
DEFAULT = "viscpm.env"


def env_file(environment: Mapping[str, str]) -> Path | None:
    """The file that VISCPM_ENV_FILE names; unset, viscpm.env of this folder where there is one; empty, none.

    Raises FileNotFoundError where the named one is not there.
    """
    named = environment.get(VARIABLE)
    file = Path(DEFAULT if named is None else named)
    if named == "" or (named is None and not file.is_file()):
        return None
    if not file.is_file():
        raise FileNotFoundError(f"{VARIABLE}={file}: there is no such file")
    return file


def env_file_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What it says; empty without one. Raises FileNotFoundError as above."""
    file = env_file(environment)
    values = dotenv_values(file, encoding="utf-8") if file else {}
    return {name: value for name, value in values.items() if value is not None}
