"""`viscpm jobs`: list, show, follow and cancel jobs of one's own tenant."""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from service.client.answers import follow_answer, remark_answer
from service.client.arguments import Parser, add_service_flags, positive
from service.client.command import run_command, service_of, with_default
from service.client.connection import Service, error_of
from service.client.events import cancel
from service.client.exit_codes import ExitCode
from service.client.output import say, say_json, say_rows, time_text
from service.client.paintings import follow_painting, tell_pictures
from service.client.picture_files import PictureFolder
from service.core.settings import Settings

_PAGE = 100


def main(arguments: Sequence[str]) -> int:
    return run_command(parser(), with_default(arguments, "list"), _run)


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="viscpm jobs", description="Jobs that can still be read, and what became of them; without COMMAND: list."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="one's own, newest first")
    listing.add_argument("-n", "--limit", type=positive, default=20, metavar="N", help="at most so many (20)")
    show = commands.add_parser("show", help="where one is, and its answer")
    follow = commands.add_parser("follow", help="its text or its steps as they come, to its end")
    follow.add_argument("-o", "--output", default=".", metavar="DIR", help="where its pictures go (.)")
    ending = commands.add_parser("cancel", help="end one")
    for one in (show, follow, ending):
        one.add_argument("id")
    for one in (listing, show, follow, ending):
        add_service_flags(one)
    return parser


def _run(options: argparse.Namespace, settings: Settings) -> int:
    commands = {"list": _list, "show": _show, "follow": _follow, "cancel": _cancel}
    with service_of(options, settings) as service:
        return commands[options.command](service, options)


def _list(service: Service, options: argparse.Namespace) -> int:
    rows = [
        {"id": job["id"], "kind": job["kind"], "state": job["state"], "created": time_text(job["created"])}
        if not options.json
        else job
        for job in _newest(service, options.limit)
    ]
    say_rows(rows, options.json, "there are no jobs that can still be read")
    return ExitCode.OK


def _newest(service: Service, limit: int) -> Iterator[dict[str, Any]]:
    after, left = None, limit
    while left > 0:
        page = service.get("/jobs", "data", limit=min(left, _PAGE), after=after)
        yield from page["data"]
        left -= len(page["data"])
        after = page["last_id"]
        if not page["has_more"]:
            return


def _show(service: Service, options: argparse.Namespace) -> int:
    job = service.get(f"/jobs/{quote(options.id, safe='')}", "state")
    if options.json:
        say_json(job)
        return ExitCode.OK
    step = None if job["step"] is None else f"{job['step']} of {job['total_steps']}"
    told = {name: job[name] for name in ("id", "kind", "state", "position")}
    say_rows([{**told, "step": step, "eta_s": job["eta_s"], "created": time_text(job["created"])}], False, "")
    answer = job["answer"] or {}
    if "answer" in answer:
        say(answer["answer"])
    for picture in answer.get("data", ()):
        score = "" if picture.get("score") is None else f", score {picture['score']:.4g}"
        say(f"a picture of seed {picture['seed']}{score}: viscpm jobs follow {job['id']} -o DIR")
    if job["error"]:
        say(f"{job['error']['code']}: {job['error']['message']}")
    return ExitCode.OK


def _follow(service: Service, options: argparse.Namespace) -> int:
    """An interrupt leaves the job alone: it may be somebody else's too."""
    job = service.get(f"/jobs/{quote(options.id, safe='')}", "state")
    if job["error"]:
        raise error_of(job["error"])
    if job["kind"] == "chat":
        answer = follow_answer(service, job["id"], is_quiet=options.json)
        if options.json:
            say_json(answer)
        return remark_answer(answer)
    folder = PictureFolder(options.output)
    tell_pictures(follow_painting(service, job["id"], job["id"], options.json), folder, options.json)
    return ExitCode.OK


def _cancel(service: Service, options: argparse.Namespace) -> int:
    job = cancel(service, options.id)
    if options.json:
        say_json(job)
    else:
        say(f"{job['id']} is {job['state']}")
    return ExitCode.OK
