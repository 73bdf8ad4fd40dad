"""Painting thousands of captions, a file each, in as many runs as it takes.

A folder of paintings holds `000000.png` and so on, by the caption's place, and `painting.json` that says how they were
painted. What is there is not painted again, and a run with other settings is refused: one folder, one experiment.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from models.evaluation.errors import EvaluationError
from models.evaluation.http_calls import CallFailed, Outcome, Retries, for_each, post
from models.evaluation.json_lines import Line, read_lines, read_object, write_whole
from models.jobs import Engine, Failed, Generated, JobRejected, PaintJob, PaintResult

SETTINGS_FILE = "painting.json"
DIGITS = 6

OnProgress = Callable[[int], object]


@dataclass(frozen=True)
class PaintSettings:
    """How each caption is painted. Caption k starts from `seed + k * candidates`, so that no two share their noise.

    The first four are what the published FID leaves open (SPEC §10).
    """

    guidance_scale: float
    num_inference_steps: int
    size_px: int
    rerank: Literal["on", "off"]
    candidates: int
    seed: int
    negative_prompt: str = ""

    def seed_of(self, place: int) -> int:
        return self.seed + place * self.candidates


class Paintings:
    """A folder of paintings of some captions.

    Args:
        about: all that the pictures depend on but the captions.

    Raises:
        EvaluationError: the folder was begun with something else, which the message names.
    """

    def __init__(self, folder: Path, captions: Sequence[str], about: Mapping[str, Any]) -> None:
        self.folder = folder
        self.captions = captions
        self.about = {**about, "captions_sha256": digest(captions)}
        folder.mkdir(parents=True, exist_ok=True)
        if not painted(folder, len(captions)):  # settings that nothing was painted with may be corrected
            text = json.dumps(self.about, ensure_ascii=False, indent=1) + "\n"
            write_whole(folder / SETTINGS_FILE, text.encode("utf-8"))
            return
        found = how_painted(folder)
        if not found:
            raise EvaluationError(f"{folder}: holds pictures but no {SETTINGS_FILE}; give another folder")
        differing = [name for name in {**found, **self.about} if found.get(name) != self.about.get(name)]
        if differing:
            listed = ", ".join(f"{name} {found.get(name)!r} and not {self.about.get(name)!r}" for name in differing)
            raise EvaluationError(f"{folder}: was begun with {listed}; give another folder")

    def missing(self, part: tuple[int, int] = (1, 1)) -> list[int]:
        """Places of the captions that have no picture yet; of every n-th alone for `part` k of n, counted from 1."""
        there = painted(self.folder, len(self.captions))
        first, step = part[0] - 1, part[1]
        return [place for place in range(first, len(self.captions), step) if place not in there]

    def add(self, place: int, png: bytes) -> None:
        write_whole(self.folder / f"{place:0{DIGITS}}.png", png)


def paint_locally(
    paintings: Paintings, places: Iterable[int], settings: PaintSettings, engine: Engine, on_progress: OnProgress
) -> list[str]:
    """Paints on this machine, one caption after the other; returns what went wrong with single ones.

    Raises:
        EvaluationError: settings that the checkpoint cannot follow.
    """
    failures = []
    for place in places:
        job = PaintJob(
            job_id=str(place),
            prompt=paintings.captions[place],
            negative_prompt=settings.negative_prompt,
            candidates=settings.candidates,
            rerank=settings.rerank,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            height_px=settings.size_px,
            width_px=settings.size_px,
            seed=settings.seed_of(place),
        )
        try:
            engine.admit(job)
        except JobRejected as error:
            raise EvaluationError(f"caption {place}: {error.message}") from None
        ended = _run(engine)
        if isinstance(ended, Failed):
            failures.append(f"caption {place}: {ended.code}: {ended.message}")
        else:
            paintings.add(place, ended.candidates[0].png)
        on_progress(1)
    return failures


def _run(engine: Engine) -> PaintResult | Failed:
    """Steps the engine to the end of its one job."""
    while True:
        for _, event in engine.step():
            if isinstance(event, Failed):
                return event
            if isinstance(event, Generated):
                assert isinstance(event.result, PaintResult), "a paint engine gives pictures"
                return event.result


async def paint_by_service(
    paintings: Paintings,
    places: Iterable[int],
    settings: PaintSettings,
    client: httpx.AsyncClient,
    concurrency: int,
    retries: Retries,
    on_progress: OnProgress,
) -> list[str]:
    """Paints through POST /paint; returns what went wrong with single captions, such as a refused one.

    Raises:
        CallFailed: what would go wrong with all of them.
    """
    outcome = Outcome()
    fixed = {name: value for name, value in asdict(settings).items() if name not in ("size_px", "seed", "rerank")}
    fixed |= {"size": f"{settings.size_px}x{settings.size_px}", "rerank": settings.rerank == "on"}

    async def paint(place: int) -> None:
        body = {**fixed, "prompt": paintings.captions[place], "seed": settings.seed_of(place)}
        try:
            answer = await post(client, "/paint", body, retries)
            paintings.add(place, base64.b64decode(answer["data"][0]["b64_json"]))
            outcome.succeed()
        except CallFailed as error:
            outcome.fail(f"caption {place}", error)
        except (KeyError, IndexError, TypeError, ValueError):
            raise CallFailed(f"{client.base_url} sent no picture: not this service?", 404) from None
        on_progress(1)

    await for_each(places, paint, concurrency)
    return outcome.failures


def how_painted(folder: Path) -> Line:
    """What a folder's pictures were painted with; nothing where that is not known. Raises EvaluationError."""
    file = folder / SETTINGS_FILE
    return read_object(file) if file.is_file() else {}


def read_captions(path: Path, limit: int | None = None) -> list[str]:
    """Captions, one a line: of `.jsonl` the field `caption`, of any other file the line itself.

    Raises:
        EvaluationError: an empty caption, named by its line, or none at all.
    """
    if path.suffix == ".jsonl":
        captions = [line["caption"] for line in read_lines(path, {"caption": str})]
    else:
        captions = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    captions = [caption.strip() for caption in captions]
    empty = [number for number, caption in enumerate(captions, 1) if not caption]
    if empty:
        raise EvaluationError(f"{path}, line {empty[0]}: an empty caption")
    return captions if limit is None else captions[:limit]


def painted(folder: Path, count: int) -> dict[int, Path]:
    """Place of the caption -> picture, in order, for the first `count` captions; other files are left alone."""
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no folder of paintings")
    found = {int(file.stem): file for file in folder.iterdir() if _is_painting(file)}
    return {place: found[place] for place in sorted(found) if place < count}


def _is_painting(file: Path) -> bool:
    return file.suffix in (".png", ".jpg", ".jpeg", ".webp") and file.stem.isascii() and file.stem.isdigit()


def digest(captions: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(captions).encode("utf-8")).hexdigest()
