"""`viscpm keys`: make, list, change, revoke and rotate API keys, in the Redis that the service uses."""

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NoReturn

from msgspec.structs import replace

from service.access.api_keys import NAME, SCOPES, ApiKey, KeyChange, KeyLimits, Scope
from service.access.key_store import KeyStore
from service.core.errors import BusUnavailable
from service.core.settings import Settings, SettingsError, read_settings
from service.redis.connection import open_redis

_SPAN = re.compile(r"([1-9]\d{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, 1 for what failed, 2 for wrong flags or settings."""
    options = _parser().parse_args(arguments)
    try:
        settings = _with_server(read_settings())
        return asyncio.run(_run(options, settings))
    except SettingsError as error:
        return _refuse(str(error), 2)
    except BusUnavailable as error:
        return _refuse(error.message, 1)


async def _run(options: argparse.Namespace, settings: Settings) -> int:
    store = KeyStore(open_redis(settings), settings)
    try:
        if options.command == "create":
            return await _create(store, options)
        if options.command == "change":
            return await _change(store, options, settings)
        if options.command == "rotate":
            return await _rotate(store, options)
        if options.command == "revoke":
            return await _revoke(store, options, settings)
        _list(await store.all(), options.json)
        return 0
    finally:
        await store.close()


async def _create(store: KeyStore, options: argparse.Namespace) -> int:
    limits = KeyLimits(options.requests_per_min, options.tokens_per_min, options.max_jobs)
    key, text = await store.create(
        options.name, options.tenant, options.scopes, options.expires, options.models, limits, options.weight
    )
    print(text)
    print(f"(key {key.id} of tenant {key.tenant}; it is shown this once)", file=sys.stderr)
    return 0


async def _change(store: KeyStore, options: argparse.Namespace, settings: Settings) -> int:
    change = KeyChange(**{name: getattr(options, name) for name in KeyChange.__struct_fields__})
    if change == KeyChange():
        return _refuse("nothing is changed: see viscpm keys change --help for what can be", 2)
    if change.expires:  # a span from now on
        change = replace(change, expires=int(time.time()) + change.expires)
    wanted = options.key
    found = [key for key in await store.all() if not key.revoked and wanted in (key.id, key.name)]
    if len(found) > 1 and all(key.id != wanted for key in found):
        return _refuse(f"{len(found)} keys are named {wanted}: take an id of {', '.join(key.id for key in found)}", 1)
    key_id = next((key.id for key in found if key.id == wanted), found[0].id if found else "")
    key = await store.change(key_id, change) if key_id else None
    if key is None:
        return _refuse(f"no key that is not revoked has the id or name {wanted}: `viscpm keys list` tells them", 1)
    _list([key], options.json)
    print(f"(within {settings.key_cache_s:g} s every API process goes by it)", file=sys.stderr)
    return 0


async def _rotate(store: KeyStore, options: argparse.Namespace) -> int:
    rotated = await store.rotate(options.id, options.overlap)
    if rotated is None:
        return _refuse(f"no live key has the id {options.id}: `viscpm keys list` tells them", 1)
    print(rotated[1])
    until = (
        f"the former one is taken until {_day(rotated[0].former_until)}" if options.overlap else "the former is void"
    )
    print(f"(key {options.id}; {until})", file=sys.stderr)
    return 0


async def _revoke(store: KeyStore, options: argparse.Namespace, settings: Settings) -> int:
    if await store.revoke(options.id) is None:
        return _refuse(f"no key has the id {options.id}: `viscpm keys list` tells them", 1)
    print(f"key {options.id} is revoked; within {settings.key_cache_s:g} s no API process takes it any more")
    return 0


def _list(keys: list[ApiKey], as_json: bool) -> None:
    """Nothing that a key could be made of."""
    rows = [_told(key) for key in keys]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items() if value not in ("", 0)))
    if not rows:
        print("there are no keys", file=sys.stderr)


def _told(key: ApiKey) -> dict[str, str | int]:
    now = datetime.now(UTC).timestamp()
    state = "live" if key.is_live(now) else "revoked" if key.revoked else "expired"
    return {
        "id": key.id,
        "name": key.name,
        "state": state,
        "tenant": key.tenant,
        "scopes": ",".join(key.scopes),
        "models": ",".join(key.models),
        "created": _day(key.created),
        "expires": _day(key.expires),
        "requests_per_min": key.limits.requests_per_min,
        "tokens_per_min": key.limits.tokens_per_min,
        "max_jobs": key.limits.max_jobs,
        "weight": key.weight,
    }


def _day(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if time_s else ""


def _with_server(settings: Settings) -> Settings:
    """Without VISCPM_REDIS_URL: the server that `viscpm serve` runs in the data folder. Raises SettingsError."""
    if settings.redis_url:
        return settings
    from service.process.embedded_redis import EmbeddedServer

    server = EmbeddedServer(settings.data_dir)
    if not server.socket_path.exists():
        raise SettingsError(
            f"VISCPM_REDIS_URL is not set, and no `viscpm serve` runs with the data folder {settings.data_dir}"
        )
    return settings.model_copy(update={"redis_url": server.url})


def _refuse(message: str, code: int) -> int:
    print(f"viscpm: {message}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="viscpm keys",
        description="API keys, kept in the Redis of VISCPM_REDIS_URL, else of a running `viscpm serve`.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    create = commands.add_parser("create", help="make one; its text goes to the standard output, this once")
    create.add_argument("name", type=_name, help="1 to 64 letters, digits and _ . -")
    create.add_argument(
        "--tenant", type=_name, default="default", help="whose jobs and conversations it sees (default)"
    )
    create.add_argument("--scopes", type=_scopes, default=("chat", "paint", "moderate"), metavar="LIST",
                        help=f"of {','.join(SCOPES)} (chat,paint,moderate)")  # fmt: skip
    create.add_argument("--expires", type=_span, default=0, metavar="SPAN", help="such as 90d; absent: never")
    create.add_argument("--models", type=_models, default=(), metavar="LIST", help="that it may ask; absent: all")
    _add_limits(create, default=0)
    change = commands.add_parser("change", help="what one may; its text stays, and what is not named")
    change.add_argument("key", metavar="NAME_OR_ID")
    change.add_argument("--name", type=_name, help="another one")
    change.add_argument("--scopes", type=_scopes, metavar="LIST", help=f"of {','.join(SCOPES)}")
    change.add_argument("--expires", type=_span_or_never, metavar="SPAN", help="from now on, such as 90d; or never")
    change.add_argument("--models", type=_models, metavar="LIST", help="that it may ask; '': all")
    _add_limits(change, default=None)
    change.add_argument("--json", action="store_true", help="how the key is told that it has become")
    listing = commands.add_parser("list", help="all of them, without their texts")
    listing.add_argument("--json", action="store_true")
    revoke = commands.add_parser("revoke", help="take one no more")
    revoke.add_argument("id")
    rotate = commands.add_parser("rotate", help="give one a new text; all else stays")
    rotate.add_argument("id")
    rotate.add_argument(
        "--overlap", type=_span, default=0, metavar="SPAN", help="for which the former text is taken too"
    )
    return parser


def _add_limits(parser: argparse.ArgumentParser, default: int | None) -> None:
    for what in ("requests", "tokens"):
        flags = f"--{what}-per-min", f"--{what}-per-minute"
        parser.add_argument(*flags, type=_count, default=default, metavar="N", help="0: no limit")
    parser.add_argument(
        "--max-jobs", type=_count, default=default, metavar="N", help="queued and running at once; 0: no limit"
    )
    parser.add_argument(
        "--weight",
        type=_weight,
        default=None if default is None else 1,
        metavar="N",
        help="1 to 1000: of its tenant's share of a busy queue",
    )


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise argparse.ArgumentTypeError(f"{value!r} is no name: 1 to 64 letters, digits and _ . - are allowed")
    return value


def _scopes(value: str) -> tuple[Scope, ...]:
    wanted = _models(value)
    scopes = tuple(scope for scope in SCOPES if scope in wanted)
    if not scopes or set(scopes) != set(wanted):
        raise argparse.ArgumentTypeError(f"{value!r} names no scopes: of {','.join(SCOPES)} one or more are allowed")
    return scopes


def _models(value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise argparse.ArgumentTypeError(f"{value!r} is no count: whole numbers from 0 are allowed")
    return int(value)


def _weight(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 4 and 1 <= int(value) <= 1000):
        raise argparse.ArgumentTypeError(f"{value!r} is no weight: whole numbers from 1 to 1000 are allowed")
    return int(value)


def _span_or_never(value: str) -> int:
    return 0 if value == "never" else _span(value)


def _span(value: str) -> int:
    match = _SPAN.fullmatch(value)
    if match is None:
        raise argparse.ArgumentTypeError(f"{value!r} is no span: a number and s, m, h or d, such as 90d")
    return int(match[1]) * _SECONDS[match[2]]
