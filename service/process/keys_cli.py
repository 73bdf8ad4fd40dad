"""`viscpm keys`: make, list, change, revoke and rotate API keys, in the Redis that the service uses."""

import argparse
import asyncio
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from service.access.api_keys import NAME, SCOPES, ApiKey, KeyChange, KeyLimits, Scope
from service.access.key_store import KeyStore
from service.client.arguments import Parser, add_json_flag
from service.client.exit_codes import CommandError, ExitCode, UsageError
from service.client.output import note, refuse, say, say_json, say_rows
from service.core.errors import BusUnavailable
from service.core.settings import Settings, SettingsError, read_settings
from service.redis.connection import open_redis

_SPAN = re.compile(r"([1-9]\d{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, 1 for what failed, 2 for wrong flags or settings."""
    options = parser().parse_args(arguments)
    try:
        settings = _with_server(read_settings())
        asyncio.run(_run(options, settings))
    except SettingsError as error:
        return refuse(UsageError(str(error)), options.json)
    except BusUnavailable as error:
        return refuse(CommandError(error.message, code=error.code), options.json)
    except CommandError as error:
        return refuse(error, options.json)
    return ExitCode.OK


async def _run(options: argparse.Namespace, settings: Settings) -> None:
    store = KeyStore(open_redis(settings), settings)
    try:
        if options.command == "create":
            await _create(store, options)
        elif options.command == "change":
            await _change(store, options, settings)
        elif options.command == "rotate":
            await _rotate(store, options)
        elif options.command == "revoke":
            await _revoke(store, options, settings)
        else:  # nothing that a key could be made of
            say_rows([_told(key) for key in await store.all()], options.json, "there are no keys")
    finally:
        await store.close()


async def _create(store: KeyStore, options: argparse.Namespace) -> None:
    limits = KeyLimits(options.requests_per_min, options.tokens_per_min, options.max_jobs)
    key, text = await store.create(
        options.name, options.tenant, options.scopes, options.expires, options.models, limits, options.weight
    )
    _tell_text(key, text, f"key {key.id} of tenant {key.tenant}; it is shown this once", options.json)


async def _change(store: KeyStore, options: argparse.Namespace, settings: Settings) -> None:
    change = KeyChange(**{name: getattr(options, name) for name in KeyChange.__struct_fields__})
    if change == KeyChange():
        raise UsageError("nothing is changed: see viscpm keys change --help for what can be")
    if change.expires:  # a span from now on
        change = replace(change, expires=int(time.time()) + change.expires)
    wanted = options.key
    found = [key for key in await store.all() if not key.revoked and wanted in (key.id, key.name)]
    if len(found) > 1 and all(key.id != wanted for key in found):
        ids = ", ".join(key.id for key in found)
        raise CommandError(f"{len(found)} keys are named {wanted}: take an id of {ids}")
    key_id = next((key.id for key in found if key.id == wanted), found[0].id if found else "")
    key = await store.change(key_id, change) if key_id else None
    if key is None:
        raise CommandError(f"no key that is not revoked has the id or name {wanted}: `viscpm keys list` tells them")
    say_rows([_told(key)], options.json, "")
    note(f"(within {settings.key_cache_s:g} s every API process goes by it)")


async def _rotate(store: KeyStore, options: argparse.Namespace) -> None:
    rotated = await store.rotate(options.id, options.overlap)
    if rotated is None:
        raise CommandError(f"no live key has the id {options.id}: `viscpm keys list` tells them")
    key, text = rotated
    until = f"the former one is taken until {_day(key.former_until)}" if options.overlap else "the former is void"
    _tell_text(key, text, f"key {options.id}; {until}", options.json)


async def _revoke(store: KeyStore, options: argparse.Namespace, settings: Settings) -> None:
    key = await store.revoke(options.id)
    if key is None:
        raise CommandError(f"no key has the id {options.id}: `viscpm keys list` tells them")
    if options.json:
        say_json(_told(key))
    else:
        say(f"key {options.id} is revoked; within {settings.key_cache_s:g} s no API process takes it any more")


def _tell_text(key: ApiKey, text: str, told: str, as_json: bool) -> None:
    """The key itself goes to the standard output alone."""
    if as_json:
        say_json({**_told(key), "key": text})
    else:
        say(text)
        note(f"({told})")


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


def parser() -> argparse.ArgumentParser:
    parser = Parser(
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
    listing = commands.add_parser("list", help="all of them, without their texts")
    revoke = commands.add_parser("revoke", help="take one no more")
    revoke.add_argument("id")
    rotate = commands.add_parser("rotate", help="give one a new text; all else stays")
    rotate.add_argument("id")
    rotate.add_argument(
        "--overlap", type=_span, default=0, metavar="SPAN", help="for which the former text is taken too"
    )
    for one in (create, change, listing, revoke, rotate):
        add_json_flag(one)
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
