"""Things that nobody has seen, with made-up names: data for the walk-through of adapters (docs/models/finetuning.md).

`draw` writes pictures and conversations in LLaVA's layout, in two parts that show every thing in its own way;
`measure` asks a checkpoint about them, and about composed emoji.
"""
# ruff: noqa: T201 (a command line speaks by print)

import argparse
import colorsys
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from models.datasets.examples import ConversationSource
from models.training.sources import (
    VALIDATION_SEED,
    ConversationSubset,
    DataSettings,
    conversation_sources,
    emoji_conversations,
)

NUM_THINGS = 50
SEED = 2024
SIDE_PX = 256
OVERSAMPLING = 2
PARTS = {"training": 1, "held_out": 2}  # name -> pictures of every thing
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_ASKED = {
    "en": ("What is this?", "What is it?", "Name this."),
    "zh": ("这是什么？", "它是什么？", "它叫什么？"),
}
_SAID = {"en": "It is a {}.", "zh": "这是{}。"}
_GOLDEN = (math.sqrt(5) - 1) / 2  # turns from one thing's hue to the next one's, which spreads them best
_GROUNDS = ((250, 250, 250), (214, 228, 240), (240, 226, 200), (208, 232, 208), (236, 214, 232))

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Thing:
    """A body with spots around its middle; all that does not change from picture to picture."""

    name: str
    corners: tuple[tuple[float, float], ...]  # of the body, about 1 from its middle
    body: Colour
    spots: tuple[tuple[float, float, float], ...]  # x, y, radius
    spot: Colour
    middle: Colour


def things(count: int, seed: int) -> tuple[Thing, ...]:
    """The first `count` things of a seed, their names all different."""
    rng = np.random.default_rng(seed)
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(str(rng.choice(list(part))) for part in (_CONSONANTS, _VOWELS) * 2)] = None
    return tuple(_thing(name, number, rng) for number, name in enumerate(names))


def draw(thing: Thing, rng: np.random.Generator, side_px: int = SIDE_PX) -> Image.Image:
    """One picture of a thing: ground, size, place and angle change."""
    side = side_px * OVERSAMPLING
    size = side * rng.uniform(0.3, 0.42)
    centre = rng.uniform(0.45, 0.55, 2) * side
    angle = rng.uniform(-0.25, 0.25)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    picture = Image.new("RGB", (side, side), _GROUNDS[int(rng.integers(len(_GROUNDS)))])
    pen = ImageDraw.Draw(picture)
    corners = np.array(thing.corners) @ turn * size + centre
    pen.polygon([(float(x), float(y)) for x, y in corners], fill=thing.body, outline=(40, 40, 40), width=side // 100)
    for spots, colour in ((((0.0, 0.0, 0.26),), thing.middle), (thing.spots, thing.spot)):
        for x, y, radius in spots:
            across, down = np.array([x, y]) @ turn * size + centre
            reach = radius * size
            pen.ellipse((across - reach, down - reach, across + reach, down + reach), fill=colour)
    return picture.resize((side_px, side_px), Image.Resampling.LANCZOS)


def write(folder: Path, count: int = NUM_THINGS, seed: int = SEED) -> None:
    """Write `images/` and a JSON file for each part; a picture's name is asked for in both languages."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, (part, num_pictures) in enumerate(PARTS.items()):
        rng = np.random.default_rng([seed, number])
        records: list[dict[str, Any]] = []
        for thing in things(count, seed):
            for copy in range(num_pictures):
                file = f"{thing.name}_{part}_{copy}.png"
                draw(thing, rng).save(folder / "images" / file)
                records += _records(thing, file, part)
        text = json.dumps(records, ensure_ascii=False, indent=1)
        (folder / f"{part}.json").write_text(text + "\n", encoding="utf-8")


def _thing(name: str, number: int, rng: np.random.Generator) -> Thing:
    num_corners = int(rng.integers(3, 8)) * 2
    low = rng.uniform(0.45, 1.0)  # a star's inner corners; near 1 a polygon
    reaches = [1.0 if corner % 2 else low for corner in range(num_corners)]
    angles = np.arange(num_corners) / num_corners * 2 * math.pi
    corners = tuple((reach * math.cos(at), reach * math.sin(at)) for reach, at in zip(reaches, angles, strict=True))
    body, spot, middle = (_colour(rng, number * _GOLDEN + turn) for turn in (0.0, 0.5, 0.25))
    count, radius, start = int(rng.integers(0, 6)), rng.uniform(0.08, 0.16), rng.uniform(0, 2 * math.pi)
    around = [start + number / max(count, 1) * 2 * math.pi for number in range(count)]
    spots = tuple((0.5 * math.cos(at), 0.5 * math.sin(at), radius) for at in around)
    return Thing(name, corners, body, spots, spot, middle)


def _colour(rng: np.random.Generator, hue: float) -> Colour:
    """Of a hue (in turns): things that people could not tell apart would teach nothing about learning."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.4, 1), rng.uniform(0.35, 1))
    return round(255 * red), round(255 * green), round(255 * blue)


def _records(thing: Thing, file: str, part: str) -> Iterator[dict[str, Any]]:
    for language, questions in _ASKED.items():
        for question in questions if part == "training" else questions[:1]:
            asked = {"from": "human", "value": f"<image>\n{question}", "kind": "made_up", "language": language}
            said = {"from": "gpt", "value": _SAID[language].format(thing.name)}
            yield {"id": f"{file}_{question}", "image": file, "conversations": [asked, said]}


def measure(checkpoint: Path, folder: Path, num_emoji: int) -> dict[str, float]:
    """Shares of exact answers about the pictures of both parts, and about as many scenes of emoji as asked for."""
    import torch  # only here: drawing needs none of it

    from models.checkpoints.loading import load_chat
    from models.training.chat.validation import exact_matches

    loaded = load_chat(checkpoint, dtype=torch.float32)
    side_px = loaded.config.image_size_px
    sources: dict[str, ConversationSource] = {}
    for part in PARTS:
        data = DataSettings(str(folder / f"{part}.json"), folder / "images", is_augmented=False)
        sources[part], _ = conversation_sources(data, side_px)
    sources["emoji"] = ConversationSubset(emoji_conversations(side_px, VALIDATION_SEED), range(num_emoji))
    shares: dict[str, float] = {}
    for name, source in sources.items():
        conversations = [source.conversation(index, 0) for index in range(len(source))]
        matches = exact_matches(loaded.model, loaded.tokenizer, conversations)
        shares |= {share.replace("exact", name, 1): value for share, value in matches.items()}
    return shares


def main(argv: Sequence[str] | None = None) -> int:
    """`draw FOLDER`, or `measure CHECKPOINT FOLDER`."""
    parser = argparse.ArgumentParser(prog="python -m models.training.made_up", description="Made-up things.")
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="write pictures and conversations")
    drawing.add_argument("folder", type=Path)
    drawing.add_argument("--count", type=int, default=NUM_THINGS)
    measuring = commands.add_parser("measure", help="ask a checkpoint about them, and about emoji")
    measuring.add_argument("checkpoint", type=Path)
    measuring.add_argument("folder", type=Path)
    measuring.add_argument("--emoji", type=int, default=400, metavar="N", help="scenes (400)")
    options = parser.parse_args(argv)
    if options.command == "draw":
        write(options.folder, options.count)
        return 0
    for name, share in measure(options.checkpoint, options.folder, options.emoji).items():
        print(f"{name:<32} {share:6.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
