"""`viscpm`: serve, the single roles, two small clients, and the tools for checkpoints."""

import argparse
import asyncio
import importlib
import logging
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn, get_args

from models.jobs import Kind
from service.core.environment.env_file import env_file_variables
from service.core.logs import configure_logging
from service.core.settings import Settings, SettingsError, read_settings
from service.core.unknown_variables import unknown_variables

_log = logging.getLogger("service.process.cli")  # not __main__, as `python -m` names it

# Flags that set a setting: they win over its variable
_SETTING_FLAGS = ("host", "port", "data_dir", "models", "api_processes", "log_level", "log_format")
# Commands with parsers of their own, most of which take torch
_MODEL_COMMANDS = {
    "checkpoint": "models.checkpoints.cli",
    "doctor": "service.doctor.cli",
    "evaluate": "models.evaluation.cli",
    "finetune": "models.training.cli",
    "setup": "service.setup.cli",
    "verify": "service.image_output.verify",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 for what failed, 2 for wrong flags or settings."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] and arguments[0] in _MODEL_COMMANDS:
        return _model_command(*arguments)
    if arguments[:1] == ["keys"]:
        from service.process.keys_cli import main as keys

        return keys(arguments[1:])
    options = _parser().parse_args(arguments)
    overrides = {name: value for name in _SETTING_FLAGS if (value := getattr(options, name, None)) is not None}
    try:
        settings = read_settings(**overrides)
    except SettingsError as error:
        print(f"viscpm: {error}", file=sys.stderr)
        return 2
    run = {"serve": _serve, "api": _api, "worker": _worker, "chat": _chat, "paint": _paint}[options.role]
    try:
        return run(settings, options, overrides)
    except KeyboardInterrupt:
        return 130


def _model_command(name: str, *arguments: str) -> int:
    try:
        module = importlib.import_module(_MODEL_COMMANDS[name])
    except ModuleNotFoundError as error:
        return _refuse(
            f"`viscpm {name}` needs {error.name}, which this installation lacks: install the extra "
            "`train` or `evaluate`, or use the image for training",
            code=1,
        )
    code: int = module.main(arguments)
    return code


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


def _chat(settings: Settings, options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from service.process.client import ClientError, chat

    try:
        chat(
            options.url or _default_url(settings),
            options.image,
            options.question,
            _given(options, "num_beams", "seed"),
            settings.api_key,
        )
    except ClientError as error:
        return _refuse(str(error), code=1)
    return 0


def _paint(settings: Settings, options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from service.process.client import ClientError, paint

    names = ("negative_prompt", "sampler", "num_inference_steps", "guidance_scale", "size", "seed")
    try:
        paint(
            options.url or _default_url(settings),
            options.prompt,
            options.output,
            _given(options, *names),
            settings.api_key,
        )
    except ClientError as error:
        return _refuse(str(error), code=1)
    return 0


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Request parameters that were asked for; the service knows the defaults of the others."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _default_url(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    return f"http://{host}:{settings.port}"


def _name_unknown_variables() -> None:
    """Most are misspelt. Only told: while versions are exchanged, one knows a variable that the other does not."""
    line = unknown_variables({**env_file_variables(os.environ), **os.environ})
    if line:
        _log.warning(line)


def _end(settings: Settings, message: str, code: int = 2) -> int:
    """Of a role that cannot start: one line, which is JSON where the others are."""
    if settings.log_format != "json":
        return _refuse(message, code)
    _log.error(message)
    return code


def _refuse(message: str, code: int = 2) -> int:
    print(f"viscpm: {message}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="viscpm",
        description="VisCPM-Chat and VisCPM-Paint as an HTTP service. Every setting is a VISCPM_* variable "
        "(docs/reference/configuration.md); a flag wins over its variable.",
    )
    parser.add_argument("--version", action="version", version=f"viscpm {_version()}")
    roles = parser.add_subparsers(dest="role", required=True, metavar="COMMAND")

    serve = roles.add_parser("serve", help="everything on this machine: embedded server, workers, API")
    _add_address(serve)
    serve.add_argument("--data-dir", type=Path, metavar="DIR", help="data of the embedded server and the checkpoints")
    serve.add_argument("--models", metavar="NAMES", help="chat, paint or chat,paint")
    serve.add_argument("--api-processes", metavar="N", help="API processes that share the port")
    _add_log_flags(serve)

    api = roles.add_parser("api", help="one API process")
    _add_address(api)
    api.add_argument("--fd", type=int, help=argparse.SUPPRESS)  # a listening socket, inherited from the supervisor
    api.add_argument("--shared-metrics", type=Path, help=argparse.SUPPRESS)  # a folder, with the other processes'
    api.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)  # among them
    _add_log_flags(api)

    worker = roles.add_parser("worker", help="one worker process")
    worker.add_argument("kind", choices=get_args(Kind), metavar="KIND", help="chat, paint or safety")
    worker.add_argument("--worker-id", default="", metavar="ID", help="unique name; made up when absent")
    worker.add_argument(
        "--predecessor", default="", metavar="ID", help="a dead worker whose jobs are taken over at once"
    )
    _add_log_flags(worker)

    chat = roles.add_parser("chat", help="ask a running service about a picture; without a question: a conversation")
    chat.add_argument("question", nargs="?", default="")
    chat.add_argument("--image", type=Path, metavar="FILE")
    chat.add_argument("--num-beams", type=int, metavar="N")
    chat.add_argument("--seed", type=int)
    _add_url(chat)

    paint = roles.add_parser("paint", help="have a running service paint a picture")
    paint.add_argument("prompt")
    paint.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".png, .jpg or .webp")
    paint.add_argument("--negative-prompt", metavar="TEXT")
    paint.add_argument("--sampler", metavar="NAME", help="ddpm, ddim, dpm++ or euler")
    paint.add_argument("--num-inference-steps", type=int, metavar="N")
    paint.add_argument("--guidance-scale", type=float, metavar="X")
    paint.add_argument("--size", metavar="WIDTHxHEIGHT")
    paint.add_argument("--seed", type=int)
    _add_url(paint)

    roles.add_parser("setup", help="write settings for this machine: see `viscpm setup --help`")
    roles.add_parser("doctor", help="find what is wrong with a set-up: see `viscpm doctor --help`")
    roles.add_parser("keys", help="API keys: see `viscpm keys --help`")
    roles.add_parser("verify", help="read a picture's labels and credentials: see `viscpm verify --help`")
    roles.add_parser("checkpoint", help="fetch, convert, inspect checkpoints: see `viscpm checkpoint --help`")
    roles.add_parser("evaluate", help="measure a checkpoint: see `viscpm evaluate --help`")
    roles.add_parser("finetune", help="train on your own data: see `viscpm finetune --help`")
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (VISCPM_HOST, 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on, 0 for a free one (VISCPM_PORT, 8000)")


def _add_log_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    parser.add_argument("--log-format", metavar="FORMAT", help="text or json")


def _add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="the service (default: VISCPM_HOST and VISCPM_PORT)")


def _version() -> str:
    try:
        return version("viscpm-service")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
