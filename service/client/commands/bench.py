"""`viscpm bench`: load a running service and tell its tokens and pictures a second, and how long one waits."""

import argparse
import asyncio
import base64
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import httpx

from service.client.arguments import Parser, add_service_flags, positive, seconds
from service.client.command import run_command, service_of
from service.client.connection import answer_in, open_async, unreachable, url_of
from service.client.events import Event, events_of, lines_of
from service.client.exit_codes import CommandError, ExitCode
from service.client.output import note, say, say_json, say_rows
from service.client.picture_files import picture_field
from service.core.settings import Settings

_COMPLETED = "image_generation.completed"
_SIDE_PX = 224


class Answered(NamedTuple):
    """One request that got its whole answer. Seconds from when it was sent."""

    first_s: float  # to the first text, or the first denoising step
    whole_s: float
    tokens: int = 0
    pictures: int = 0


def main(arguments: Sequence[str]) -> int:
    return run_command(parser(), arguments, _run, is_intermixed=True)


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="viscpm bench",
        description="Send requests for a time, so many at once, and tell throughput and percentiles. Conversations "
        "that it makes are deleted.",
    )
    parser.add_argument("model", choices=("chat", "paint"), metavar="MODEL", help="chat or paint")
    parser.add_argument("-c", "--concurrency", type=positive, default=4, metavar="N", help="requests at once (4)")
    parser.add_argument("-d", "--duration", type=seconds, default=30.0, metavar="SECONDS", help="(30)")
    parser.add_argument("--image", metavar="FILE", help="of chat: a picture; absent: one of plain colours")
    parser.add_argument("--question", default="What is in the picture?", metavar="TEXT")
    parser.add_argument("--num-beams", type=positive, metavar="N")
    parser.add_argument("--max-new-tokens", type=positive, metavar="N")
    parser.add_argument("--prompt", default="红苹果", metavar="TEXT")
    parser.add_argument("-n", type=positive, default=1, metavar="N", help="of paint: pictures of a request (1)")
    parser.add_argument("--num-inference-steps", "--steps", type=positive, metavar="N")
    add_service_flags(parser)
    return parser


def _run(options: argparse.Namespace, settings: Settings) -> int:
    with service_of(options, settings) as service:
        ready = service.get("/health/ready", "models")
    model = ready["models"].get(options.model)
    if model is None:
        raise CommandError(f"this service does not offer {options.model}")
    load = _Load(options)
    asyncio.run(load.run(url_of(settings, options.url), settings.api_key))
    report = _report(options, model, load)
    if options.json:
        say_json(report)
    else:
        _tell(report)
    if not load.answered:
        raise CommandError(f"no request was answered: {_errors(report)}")
    return ExitCode.OK


class _Load:
    """Requests of one kind, one after the other from each of several clients."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.answered: list[Answered] = []
        self.errors: Counter[str] = Counter()
        self.took_s = 0.0
        self._options = options
        self._path = f"/{options.model}"
        self._body = _body(options)
        self._conversations: list[str] = []

    async def run(self, url: str, api_key: str) -> None:
        """Those that are under way at the end are waited for."""
        loop = asyncio.get_running_loop()
        async with open_async(url, api_key, self._options.concurrency) as client:
            began_s = loop.time()
            ends_s = began_s + self._options.duration

            async def ask_on() -> None:
                while loop.time() < ends_s:
                    await self._ask(client)

            await asyncio.gather(*(ask_on() for _ in range(self._options.concurrency)))
            self.took_s = loop.time() - began_s
            for conversation_id in self._conversations:
                await client.delete(f"/conversations/{conversation_id}")

    async def _ask(self, client: httpx.AsyncClient) -> None:
        sent_s, first_s = time.monotonic(), 0.0
        tokens = pictures = 0
        try:
            async for event in _events(client, self._path, self._body):
                now_s = time.monotonic()
                if not first_s and (event.data.get("delta") or event.name):
                    first_s = now_s
                if event.data.get("object") == "chat.answer":
                    tokens = event.data["usage"]["completion_tokens"]
                    self._conversations.append(event.data["conversation_id"])
                pictures += event.name == _COMPLETED
        except CommandError as error:
            self.errors[error.code or str(error)] += 1
            await asyncio.sleep(error.retry_after_s or 0.1)
            return
        ended_s = time.monotonic()
        self.answered.append(Answered((first_s or ended_s) - sent_s, ended_s - sent_s, tokens, pictures))


def _body(options: argparse.Namespace) -> dict[str, Any]:
    if options.model == "paint":
        names = {"num_inference_steps": options.num_inference_steps}
        body: dict[str, Any] = {"prompt": options.prompt, "n": options.n, "stream": True}
    else:
        names = {"num_beams": options.num_beams, "max_new_tokens": options.max_new_tokens}
        image = _plain_picture() if options.image is None else picture_field(options.image)
        body = {"question": options.question, "image": image, "stream": True}
    return body | {name: value for name, value in names.items() if value is not None}


def _plain_picture() -> str:
    from PIL import Image

    target = io.BytesIO()
    Image.linear_gradient("L").resize((_SIDE_PX, _SIDE_PX)).convert("RGB").save(target, "PNG")
    return base64.b64encode(target.getvalue()).decode()


async def _events(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> AsyncIterator[Event]:
    """Raises CommandError."""
    try:
        async with client.stream("POST", path, json=body) as response:
            if response.is_error:
                await response.aread()
                answer_in(response, "error")
            rest = ""
            async for piece in response.aiter_text():
                *lines, rest = (rest + piece).split("\n\n")
                for event in events_of(lines_of(f"{one}\n\n" for one in lines)):
                    if event is None:
                        return
                    yield event
    except httpx.HTTPError as error:
        raise unreachable(client.base_url, path, error) from None
    raise CommandError("the stream broke off", code="broken_stream")


def _report(options: argparse.Namespace, model: dict[str, Any], load: _Load) -> dict[str, Any]:
    answered, took_s = load.answered, load.took_s
    per_second = {
        "requests": len(answered) / took_s,
        "tokens": sum(one.tokens for one in answered) / took_s,
        "pictures": sum(one.pictures for one in answered) / took_s,
    }
    return {
        "model": options.model,
        "checkpoint": model["name"],
        "untrained": model["untrained"],
        "concurrency": options.concurrency,
        "took_s": round(took_s, 3),
        "answered": len(answered),
        "errors": dict(load.errors),
        **{f"{name}_per_s": round(value, 3) for name, value in per_second.items()},
        "first_s": percentiles([one.first_s for one in answered]),
        "whole_s": percentiles([one.whole_s for one in answered]),
    }


def percentiles(times_s: list[float]) -> dict[str, float]:
    """Half of them, nine of ten, 99 of a hundred took no longer; and the longest. Empty of none."""
    ordered = sorted(times_s)
    if not ordered:
        return {}
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[max(0, -int(-share * len(ordered) // 1) - 1)], 4) for name, share in at.items()}


def _tell(report: dict[str, Any]) -> None:
    if report["untrained"]:
        note("(untrained weights: what they answer may be longer or shorter than a trained model's)")
    what = "tokens" if report["model"] == "chat" else "pictures"
    say(
        f"{report['checkpoint']}: {report['answered']} answers in {report['took_s']:.1f} s, "
        f"{report['concurrency']} at once: {report[f'{what}_per_s']:.2f} {what}/s, {report['requests_per_s']:.2f} "
        f"requests/s{'; ' + _errors(report) if report['errors'] else ''}"
    )
    names = {"first_s": "first token" if what == "tokens" else "first step", "whole_s": "whole answer"}
    if report["answered"]:
        rows = [{"seconds to": told, **report[name]} for name, told in names.items()]
        say_rows(rows, False, "")


def _errors(report: dict[str, Any]) -> str:
    return ", ".join(f"{count} x {code}" for code, count in report["errors"].items())
