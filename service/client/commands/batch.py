"""`viscpm batch`: a file of requests, a few at once; what is done stays done when the command is killed."""

import argparse
import asyncio
import base64
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.client.arguments import Parser, add_service_flags, positive, seconds
from service.client.batches.journal import Journal
from service.client.batches.lines import Line, RequestFile, read_requests
from service.client.batches.sender import Result, Sender
from service.client.command import run_command
from service.client.connection import open_async, url_of
from service.client.exit_codes import CommandError, ExitCode
from service.client.output import note, say, say_json
from service.client.progress import progress
from service.core.settings import Settings


def main(arguments: Sequence[str]) -> int:
    return run_command(parser(), arguments, _run, is_intermixed=True)


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="viscpm batch",
        description="Send a file of requests. Each line is a request as /v1/batches take it, or the body alone of a "
        "question or a prompt; image_file names a picture. After a kill the same command goes on where it was.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.jsonl")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.jsonl", help="results (FILE.results.jsonl)")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="painted pictures go there, not into the results")
    parser.add_argument("-c", "--concurrency", type=positive, default=8, metavar="N", help="lines at once (8)")
    parser.add_argument(
        "--retry-for", type=seconds, default=600.0, metavar="SECONDS", help="while nothing is answered (600)"
    )
    add_service_flags(parser)
    return parser


def _run(options: argparse.Namespace, settings: Settings) -> int:
    requests = read_requests(options.file)
    output = options.output or options.file.with_name(f"{options.file.stem}.results.jsonl")
    if options.pictures is not None:
        try:
            options.pictures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{options.pictures}: {error.strerror}") from None
    with Journal(requests, output) as journal:
        try:
            asyncio.run(_send(options, settings, requests, journal))
        except (KeyboardInterrupt, CommandError):
            done = len(journal.done)
            note(f"({done} of {len(requests.lines)} lines are done; the same command goes on with the others)")
            raise
        journal.finish()
    return _tell(output, options.json)


async def _send(options: argparse.Namespace, settings: Settings, requests: RequestFile, journal: Journal) -> None:
    url = url_of(settings, options.url)
    total, done = len(requests.lines), len(journal.done)
    with progress(options.file.name, is_quiet=options.json) as bar:
        failed = 0

        def on_result(line: Line, result: Result) -> None:
            nonlocal done, failed
            if options.pictures is not None:
                _take_pictures_out(result["response"]["body"], line.number, options.pictures)
            done += 1
            failed += result["response"]["status_code"] >= 400
            bar.update(done, total, f"{failed} with errors" if failed else "")

        bar.update(done, total)
        async with open_async(url, settings.api_key, options.concurrency) as client:
            sender = Sender(client, requests, journal, options.retry_for, on_result)
            await sender.send_all(options.concurrency)


def _take_pictures_out(body: dict[str, Any], number: int, folder: Path) -> None:
    """Write them, named by their line: a line that is answered again writes the same files."""
    output_format = str(body.get("output_format", "png"))
    for index, picture in enumerate(body.get("data", ()), 1):
        path = folder / f"{number:06d}-{index}.{'jpg' if output_format == 'jpeg' else output_format}"
        try:
            path.write_bytes(base64.b64decode(picture.pop("b64_json")))
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from None
        picture["file"] = str(path)


def _tell(output: Path, as_json: bool) -> int:
    """The counts, and the exit code that they come to."""
    outcomes: Counter[str] = Counter()
    with output.open("rb") as file:
        for text in file:
            outcomes[_outcome(json.loads(text)["response"])] += 1
    told = {"lines": sum(outcomes.values()), **{name: outcomes[name] for name in ("done", "refused", "failed")}}
    if as_json:
        say_json({**told, "results": str(output)})
    else:
        say(f"{output}: {told['lines']} lines, {told['done']} done, {told['refused']} refused, {told['failed']} failed")
    return ExitCode.FAILED if outcomes["failed"] else ExitCode.REFUSED if outcomes["refused"] else ExitCode.OK


def _outcome(response: dict[str, Any]) -> str:
    body = response["body"]
    if response["status_code"] >= 400:
        return "refused" if body["error"].get("code") == "content_policy_violation" else "failed"
    reasons = [body.get("finish_reason"), *(choice.get("finish_reason") for choice in body.get("choices", ()))]
    return "refused" if "content_filter" in reasons else "done"
