"""Paintings as people wait for them: place in the queue, steps, previews, and the pictures as files."""

import base64
import sys
from typing import Any

from service.client.answers import remark_untrained
from service.client.connection import Service
from service.client.events import Event, follow, wait_for_turn
from service.client.exit_codes import CommandError
from service.client.output import note, say, say_json, span_text
from service.client.picture_files import PictureFolder
from service.client.progress import Progress, progress
from service.client.terminal_pictures import protocol_of, show

_COMPLETED = "image_generation.completed"


def follow_painting(service: Service, job_id: str, what: str, is_quiet: bool = False) -> list[dict[str, Any]]:
    """The finished pictures of a paint job, each with the answer's common fields; previews where they can be seen."""
    pictures: dict[int, dict[str, Any]] = {}  # by index: a stream that is taken up again tells them again
    with progress(what, is_quiet) as bar:
        for waiting in wait_for_turn(service, job_id):
            place = f"place {waiting.position} in the queue" if waiting.position else "in the queue"
            bar.wait(f"{place}, about {span_text(waiting.eta_s)} left" if waiting.eta_s else place)
        for event in follow(service, job_id):
            if event.name == _COMPLETED:
                pictures[event.data["index"]] = event.data
            else:
                _show_step(event, bar, is_quiet)
    if not pictures:
        raise CommandError(f"job {job_id} ended without a picture")
    return list(pictures.values())


def tell_pictures(pictures: list[dict[str, Any]], folder: PictureFolder, as_json: bool) -> None:
    """Write them and say where they are, with seeds and scores."""
    written = []
    for picture in pictures:
        path = folder.write(picture, picture["output_format"])
        written.append({"file": str(path), "seed": picture["seed"], "score": picture.get("score")})
    if as_json:
        shared = {name: pictures[0].get(name) for name in ("id", "model", "size", "reranker", "untrained")}
        say_json({**shared, "pictures": written})
        return
    _remark(pictures[0])
    for picture, told in zip(pictures, written, strict=True):
        _show(base64.b64decode(picture["b64_json"]))
        score = "" if told["score"] is None else f", score {told['score']:.4g}"
        say(f"{told['file']} (seed {told['seed']}{score})")


def num_previews() -> int:
    """As many as a terminal is worth."""
    return 2 if protocol_of(sys.stderr) else 0


def _show_step(event: Event, bar: Progress, is_quiet: bool) -> None:
    if "step" in event.data:
        bar.update(event.data["step"], event.data["total_steps"])
    elif "b64_json" in event.data and not is_quiet:
        with bar.pause():
            _show(base64.b64decode(event.data["b64_json"]))


def _show(picture: bytes) -> None:
    """On a terminal that can."""
    if protocol := protocol_of(sys.stderr):
        show(sys.stderr, protocol, picture)


def _remark(picture: dict[str, Any]) -> None:
    """What is to be known of a painting, by any of its pictures."""
    remark_untrained(picture)
    if picture.get("unknown_words"):
        note(f"(the model knows no {', '.join(map(repr, picture['unknown_words']))})")
