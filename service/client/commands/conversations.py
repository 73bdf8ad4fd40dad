"""`viscpm conversations`: list them, look at one, rename it, take it along, go on from an earlier turn, forget it."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from service.client.answers import follow_answer, remark_answer
from service.client.arguments import ANSWER_FIELDS, Parser, add_answer_flags, add_service_flags, given, positive
from service.client.command import run_command, service_of, with_default
from service.client.connection import Service
from service.client.events import begin, cancelled_with_us
from service.client.exit_codes import CommandError, ExitCode, UsageError
from service.client.output import say, say_json, say_rows, time_text
from service.client.transcripts import as_markdown, save
from service.core.settings import Settings

_PAGE = 100


def main(arguments: Sequence[str]) -> int:
    return run_command(parser(), with_default(arguments, "list"), _run)


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="viscpm conversations", description="Conversations that the service keeps; without COMMAND: list."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, told: str, has_id: bool = True) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=told)
        if has_id:
            one.add_argument("id")
        add_service_flags(one)
        return one

    listing = add("list", "one's own, the one used last first", has_id=False)
    listing.add_argument("-n", "--limit", type=positive, default=20, metavar="N", help="at most so many (20)")
    add("show", "its turns")
    add("rename", "give it a title").add_argument("title", help="empty: none")
    export = add("export", "as JSON, with its picture")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="a new file: .json, or Markdown to read")
    add("import", "a new one of what export gave", has_id=False).add_argument("file", type=Path, metavar="FILE")
    branch = add("branch", "a new one of its first turns")
    branch.add_argument("--turn", type=positive, metavar="N", help="the first that is left out, counted from 1")
    branch.add_argument("--title", metavar="TEXT")
    add_answer_flags(add("regenerate", "answer its last question anew"))
    add("delete", "forget it and what came of it")
    return parser


def _run(options: argparse.Namespace, settings: Settings) -> int:
    with service_of(options, settings) as service:
        return _COMMANDS[options.command](service, options)


def _list(service: Service, options: argparse.Namespace) -> int:
    rows = [
        one
        if options.json
        else {
            "id": one["id"],
            "title": one["title"],
            "turns": one["num_turns"],
            "picture": "yes" if one["has_image"] else "",
            "last used": time_text(one["last_used"]),
        }
        for one in _latest(service, options.limit)
    ]
    say_rows(rows, options.json, "there are no conversations")
    return ExitCode.OK


def _latest(service: Service, limit: int) -> Iterator[dict[str, Any]]:
    cursor, left = None, limit
    while left > 0:
        page = service.get("/conversations", "data", limit=min(left, _PAGE), cursor=cursor)
        yield from page["data"]
        left -= len(page["data"])
        cursor = page["next_cursor"]
        if not page["has_more"]:
            return


def _show(service: Service, options: argparse.Namespace) -> int:
    conversation = service.get(_path(options), "turns")
    if options.json:
        say_json(conversation)
    else:
        say(as_markdown(conversation), end="")
    return ExitCode.OK


def _rename(service: Service, options: argparse.Namespace) -> int:
    renamed = service.request("PATCH", _path(options), "id", json={"title": options.title or None})
    return _tell(renamed, options, f"{renamed['id']} has the title {renamed['title']!r}")


def _export(service: Service, options: argparse.Namespace) -> int:
    if options.output is None:
        say_json(service.get(f"{_path(options)}/export", "turns"))
        return ExitCode.OK
    save(service, _path(options), options.output)
    return _tell({"id": options.id, "file": str(options.output)}, options, f"saved in {options.output}")


def _import(service: Service, options: argparse.Namespace) -> int:
    try:
        exported = json.loads(options.file.read_bytes())
    except OSError as error:
        raise CommandError(f"{options.file}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{options.file} is no JSON: {error}") from None
    return _tell_new(service.post("/conversations/import", exported, "id"), options)


def _branch(service: Service, options: argparse.Namespace) -> int:
    return _tell_new(service.post(f"{_path(options)}/branch", given(options, "turn", "title"), "id"), options)


def _regenerate(service: Service, options: argparse.Namespace) -> int:
    job_id = begin(service, f"{_path(options)}/regenerate", given(options, *ANSWER_FIELDS))
    with cancelled_with_us(service, job_id):
        answer = follow_answer(service, job_id, is_quiet=options.json)
    if options.json:
        say_json(answer)
    return remark_answer(answer)


def _delete(service: Service, options: argparse.Namespace) -> int:
    service.request("DELETE", _path(options), "")
    return _tell({"id": options.id, "deleted": True}, options, f"{options.id} is forgotten")


def _tell_new(conversation: dict[str, Any], options: argparse.Namespace) -> int:
    return _tell(conversation, options, f"{conversation['id']} has {len(conversation['turns'])} turns")


def _tell(answer: dict[str, Any], options: argparse.Namespace, text: str) -> int:
    if options.json:
        say_json(answer)
    else:
        say(text)
    return ExitCode.OK


def _path(options: argparse.Namespace) -> str:
    return f"/conversations/{quote(options.id, safe='')}"


_COMMANDS = {
    "list": _list,
    "show": _show,
    "rename": _rename,
    "export": _export,
    "import": _import,
    "branch": _branch,
    "regenerate": _regenerate,
    "delete": _delete,
}
