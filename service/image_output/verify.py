"""`viscpm verify`: what a picture says of where it comes from, and whether that holds.

    viscpm verify picture.png
    viscpm verify --json picture.png
    viscpm verify --trust-anchors authorities.pem picture.png

Labels are read from PNG, JPEG and WebP, and content credentials (C2PA) are checked where the extra `c2pa` is installed.
Exit code 0: there are labels or credentials, and nothing is wrong with them; 1: there are none, or one is broken.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service.image_output.label_reader import PictureUnreadable, ReadLabels, read_labels
from service.image_output.provenance import AnchorsUnusable

if TYPE_CHECKING:  # of the extra `c2pa`
    from service.image_output.credential_reader import Credentials

_MANIFEST = b"jumdc2pa"  # begins the box of content credentials in every format
_FORMATS = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"RIFF", "webp"))


class Verified(NamedTuple):
    """`credentials` is None where there are none, or where they could not be checked, which is among the problems."""

    file: str
    labels: ReadLabels | None
    credentials: "Credentials | None"
    problems: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """There is something, and nothing is wrong with it."""
        has_labels = self.labels is not None and bool(self.labels.labels)
        return (has_labels or self.credentials is not None) and not self.problems

    def as_json(self) -> dict[str, object]:
        labels = self.labels.labels if self.labels is not None else ()
        return {
            "file": self.file,
            "intact": self.is_intact,
            "labels": [{"kind": label.kind, **label.says} for label in labels],
            "credentials": self.credentials._asdict() if self.credentials is not None else None,
            "problems": self.problems,
        }


def verify(file: str, data: bytes, anchors_pem: str = "") -> Verified:
    """Everything that the file's bytes say; with anchors, credentials by somebody whom they vouch for are a must.

    Raises AnchorsUnusable.
    """
    problems: list[str] = []
    labels = None
    try:
        labels = read_labels(data)
        problems += labels.problems
    except PictureUnreadable as error:
        problems.append(str(error))
    credentials = _credentials(data, anchors_pem, problems)
    if credentials is not None:
        problems += [f"credentials: {problem}" for problem in credentials.problems]
        if credentials.state == "invalid" and not credentials.problems:
            problems.append("credentials: they are not valid")
    elif anchors_pem and not problems:
        problems.append("there are no content credentials")
    return Verified(file, labels, credentials, tuple(problems))


def _credentials(data: bytes, anchors_pem: str, problems: list[str]) -> "Credentials | None":
    picture_format = next((name for start, name in _FORMATS if data.startswith(start)), "")
    if not picture_format or _MANIFEST not in data:
        return None
    try:
        from service.image_output.credential_reader import read_credentials
    except ModuleNotFoundError as error:
        problems.append(f"there are credentials, and no {error.name} to check them: install the extra `c2pa`")
        return None
    return read_credentials(data, picture_format, anchors_pem)


def report(verified: Verified) -> str:
    """For people, a line for each label."""
    labels, credentials = verified.labels, verified.credentials
    size = f": {labels.format}, {labels.width_px} x {labels.height_px} px" if labels is not None else ""
    lines = [f"{verified.file}{size}"]
    for label in labels.labels if labels is not None else ():
        lines.append(f"  {label.kind:12}" + "; ".join(f"{name} {text}" for name, text in label.says.items()))
    if credentials is not None:
        told = {
            "signer": credentials.signer,
            "organization": credentials.organization,
            "signature": credentials.algorithm,
            "time stamp": credentials.signed_at or "none",
            "created": credentials.created,
            "software": credentials.software,
            "source_type": credentials.source_type,
        }
        changed = "changed since it was signed" if credentials.is_tampered else ""
        state = {"valid": "valid, signer not checked", "trusted": "valid, signer trusted", "invalid": "not valid"}
        words = [state[credentials.state], changed, *(f"{name} {text}" for name, text in told.items() if text)]
        lines.append(f"  {'credentials':12}" + "; ".join(filter(None, words)))
    lines += [f"  {'problem':12}{problem}" for problem in verified.problems]
    if verified.is_intact:
        lines.append("  intact")
    elif not verified.problems:
        lines.append("  no labels and no credentials: that does not say how it was made")
    return "\n".join(map(_printable, lines))


def _printable(line: str) -> str:
    """Labels are anybody's: what would move a terminal's cursor does not get there."""
    return "".join(character if character.isprintable() else "\ufffd" for character in line)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="viscpm verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("file", metavar="FILE")
    made.add_argument("--json", action="store_true", help="one JSON line")
    made.add_argument(
        "--trust-anchors", type=Path, metavar="PEM", help="authorities: credentials of others, or none, are a problem"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        data = Path(options.file).read_bytes()
        anchors_pem = options.trust_anchors.read_text("ascii") if options.trust_anchors else ""
        verified = verify(options.file, data, anchors_pem)
    except OSError as error:
        sys.stderr.write(f"viscpm verify: {error.filename}: {error.strerror}\n")
        return 1
    except (UnicodeDecodeError, AnchorsUnusable):
        sys.stderr.write(f"viscpm verify: {options.trust_anchors}: no certificates in PEM\n")
        return 1
    sys.stdout.write((json.dumps(verified.as_json(), ensure_ascii=False) if options.json else report(verified)) + "\n")
    return 0 if verified.is_intact else 1
