"""VISCPM_* variables that nothing reads: most often a setting misspelt."""

import difflib
import re
from collections.abc import Mapping

from service.core.settings import PREFIX, Settings

# Variables of ours that no process reads: for compose, the checkpoints' tools and tests
_NO_SETTINGS = (
    "API_MEMORY",
    "BOX_WORKER_MEMORY",
    "CHAT_GPU",
    "PAINT_GPU",
    "HUB",
    "IMAGE",
    "MODELS_DIR",
    "NOTO_EMOJI_FONT",
    "PARITY_DIR",
    "PROXY_MEMORY",
    "PUBLISH",
    "SAFETY_MEMORY",
    "SAFETY_TARGET",
    "TAG",
    "TLS_DIR",
    "VALKEY_MEMORY",
    "WORKER_MEMORY",
)
# Not ours: tests' (TEST_…), and what Kubernetes tells of a service named viscpm
_OTHERS = re.compile(r"TEST_.*|(.+_)?SERVICE_(HOST|PORT)(_.*)?|(.+_)?PORT_\d+_(TCP|UDP)(_.*)?")


def unknown_variables(environment: Mapping[str, str]) -> str:
    """One line about VISCPM_* variables that nothing reads, each with the nearest known one; empty: there are none."""
    known = [name.upper() for name in Settings.model_fields] + list(_NO_SETTINGS)
    told = []
    for variable in sorted(environment):
        name = variable.upper().removeprefix(PREFIX)  # read in any case, as settings are
        if not variable.upper().startswith(PREFIX) or name in known or _OTHERS.fullmatch(name):
            continue
        nearest = difflib.get_close_matches(name, known, 1)
        told.append(variable + (f" (did you mean {PREFIX}{nearest[0]}?)" if nearest else ""))
    return f"no setting is called {', '.join(told)}: ignored" if told else ""
