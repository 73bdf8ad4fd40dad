"""What `viscpm serve`, `viscpm api` and `viscpm worker` run: their flags, and what is checked before they start."""

import argparse
import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from models.jobs import Kind
from service.client.arguments import Parser
from service.client.exit_codes import ExitCode
from service.client.output import fail
from service.core.environment.env_file import env_file_variables
from service.core.logs import configure_logging
from service.core.process_memory import importing
from service.core.settings import Settings, SettingsError, read_settings
from service.core.unknown_variables import unknown_variables

_log = logging.getLogger(__name__)

# Flags that set a setting: they win over its variable
_SETTING_FLAGS = ("host", "port", "data_dir", "models", "api_processes", "log_level", "log_format")


def serve(arguments: Sequence[str]) -> int:
    """The exit code, as of the two others: 0, 1 for what failed, 2 for wrong flags or settings."""
    return _start("serve", _serve, arguments)


def api(arguments: Sequence[str]) -> int:
    return _start("api", _api, arguments)


def worker(arguments: Sequence[str]) -> int:
    return _start("worker", _worker, arguments)


def _start(
    role: str, run: Callable[[Settings, argparse.Namespace, dict[str, object]], int], arguments: Sequence[str]
) -> int:
    options = parsers()[role].parse_args(arguments)
    overrides = {name: value for name in _SETTING_FLAGS if (value := getattr(options, name, None)) is not None}
    try:
        settings = read_settings(**overrides)
    except SettingsError as error:
        return fail(str(error), ExitCode.USAGE)
    try:
        return run(settings, options, overrides)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Of each role."""
    of_serve = Parser(prog="viscpm serve", description="Everything on this machine: embedded server, workers, API.")
    _add_address(of_serve)
    of_serve.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="data of the embedded server and the checkpoints"
    )
    of_serve.add_argument("--models", metavar="NAMES", help="chat, paint or chat,paint")
    of_serve.add_argument("--api-processes", metavar="N", help="API processes that share the port")

    of_api = Parser(prog="viscpm api", description="One API process.")
    _add_address(of_api)
    of_api.add_argument("--fd", type=int, help=argparse.SUPPRESS)  # a listening socket, inherited from the supervisor
    of_api.add_argument("--shared-metrics", type=Path, help=argparse.SUPPRESS)  # a folder, with the other processes'
    of_api.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)  # among them

    of_worker = Parser(prog="viscpm worker", description="One worker process.")
    of_worker.add_argument("kind", choices=get_args(Kind), metavar="KIND", help="chat, paint or safety")
    of_worker.add_argument("--worker-id", default="", metavar="ID", help="unique name; made up when absent")
    of_worker.add_argument(
        "--predecessor", default="", metavar="ID", help="a dead worker whose jobs are taken over at once"
    )
    for parser in (of_serve, of_api, of_worker):
        parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
        parser.add_argument("--log-format", metavar="FORMAT", help="text or json")
    return {"serve": of_serve, "api": of_api, "worker": of_worker}


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (VISCPM_HOST, 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on, 0 for a free one (VISCPM_PORT, 8000)")


def _serve(settings: Settings, options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from service.process.supervisor import Supervisor

    configure_logging(settings.log_level, "serve", settings.log_format)
    _name_unknown_variables()
    if exposed := _exposed(settings):
        return _end(settings, exposed)
    if settings.redis_url and (unfit := _unfit_server(settings)):
        return _end(settings, unfit)
    if unusable := _unusable_credentials(settings):
        return _end(settings, unusable)

    async def serve() -> int:
        return await Supervisor(settings, overrides).run()

    return asyncio.run(serve())


def _api(settings: Settings, options: argparse.Namespace, overrides: dict[str, object]) -> int:
    configure_logging(settings.log_level, "api", settings.log_format)
    if options.fd is None:  # else the supervisor has said it
        _name_unknown_variables()
    if exposed := _exposed(settings):
        return _end(settings, exposed)
    if not settings.redis_url:
        return _end(
            settings, "VISCPM_REDIS_URL is not set: the api role needs it (`viscpm serve` brings its own server)"
        )
    if unfit := _unfit_server(settings):
        return _end(settings, unfit)
    with importing():
        from safety.policy import PolicyError
        from service.core.shared_metrics import share_metrics
        from service.http.app import create_app
        from service.image_output.provenance import CredentialsUnusable
        from service.jobs.audit import AuditUnwritable
        from service.process.api_server import BindError, bind, bound_to, run_api

    try:
        if options.shared_metrics is not None:
            share_metrics(options.shared_metrics, options.number)
        app = create_app(settings)
    except (PolicyError, AuditUnwritable, CredentialsUnusable) as error:
        return _end(settings, str(error))
    except OSError as error:
        return _end(settings, f"cannot count in {options.shared_metrics}: {error.strerror or error}", code=1)
    try:
        listener = bind(settings.host, settings.port) if options.fd is None else socket.socket(fileno=options.fd)
    except BindError as error:
        return _end(settings, str(error), code=1)
    _log.info("listening on %s", bound_to(listener))
    return run_api(app, settings, listener)


def _worker(settings: Settings, options: argparse.Namespace, overrides: dict[str, object]) -> int:
    configure_logging(settings.log_level, f"worker {options.kind}", settings.log_format)
    if not options.worker_id:
        _name_unknown_variables()
    if not settings.redis_url:
        message = "VISCPM_REDIS_URL is not set: the worker role needs it (`viscpm serve` brings its own server)"
        return _end(settings, message)
    if unfit := _unfit_server(settings):
        return _end(settings, unfit)
    with importing():
        from service.worker.worker import run_worker

    worker_id = options.worker_id or f"{socket.gethostname()}-{options.kind}-{secrets.token_hex(3)}"
    return run_worker(options.kind, settings, worker_id, options.predecessor)


def _exposed(settings: Settings) -> str:
    """Why the API does not listen there as it is; empty where it may."""
    if settings.auth != "auto" or settings.is_loopback:
        return ""
    return (
        f"VISCPM_HOST={settings.host} can be asked from elsewhere, and VISCPM_AUTH does not say how: on (API keys, "
        "`viscpm keys create`) or off (open to all who reach it)"
    )


def _unfit_server(settings: Settings) -> str:
    """Why the queue's server cannot be used as it is; empty where it can, or is away for now."""
    from service.process.server_check import ServerUnfit, check_server
    from service.redis.connection import open_redis

    try:
        asyncio.run(check_server(open_redis(settings)))
    except (ServerUnfit, SettingsError) as error:
        return str(error)
    return ""


def _unusable_credentials(settings: Settings) -> str:
    """Why pictures cannot be signed as the settings say; empty where they can, or need not."""
    if not settings.c2pa_key_file:
        return ""
    from service.image_output.ai_labels import open_credentials
    from service.image_output.provenance import CredentialsUnusable

    try:
        credentials = open_credentials(settings)
    except CredentialsUnusable as error:
        return str(error)
    if credentials is not None:
        credentials.close()
    return ""


def _name_unknown_variables() -> None:
    """Most are misspelt. Only told: while versions are exchanged, one knows a variable that the other does not."""
    line = unknown_variables({**env_file_variables(os.environ), **os.environ})
    if line:
        _log.warning(line)


def _end(settings: Settings, message: str, code: int = 2) -> int:
    """Of a role that cannot start: one line, which is JSON where the others are."""
    if settings.log_format != "json":
        return fail(message, code)
    _log.error(message)
    return code
