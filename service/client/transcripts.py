"""Conversations as files: JSON that can be imported again, or Markdown to read."""

import json
from pathlib import Path
from typing import Any

from service.client.connection import Service
from service.client.exit_codes import CommandError


def save(service: Service, path_of_conversation: str, target: Path, may_replace: bool = False) -> None:
    """Write it in the form that the name's end says.

    Raises CommandError: also where the file is there already, unless `may_replace`.
    """
    if target.suffix == ".json":
        text = json.dumps(service.get(f"{path_of_conversation}/export", "turns"), ensure_ascii=False, indent=1) + "\n"
    else:
        text = as_markdown(service.get(path_of_conversation, "turns"))
    try:
        with target.open("w" if may_replace else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CommandError(f"{target} is there already: choose another name") from None
    except OSError as error:
        raise CommandError(f"{target}: {error.strerror}") from None


def as_markdown(conversation: dict[str, Any]) -> str:
    """Questions as quotes, answers below them."""
    parts = [f"# {conversation.get('title') or conversation['id']}"]
    if conversation.get("dropped_turns"):
        parts.append(f"*{conversation['dropped_turns']} older turns are gone.*")
    for turn in conversation["turns"]:
        parts.append("\n".join(f"> {line}" for line in turn["question"].splitlines()))
        parts.append(turn["answer"])
    return "\n\n".join(parts) + "\n"
