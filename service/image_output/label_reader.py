"""What a picture's labels say, whoever wrote them: PNG texts, XMP, EXIF, the AIGC record.

They are statements that anybody can write. What can be told without a signature is told: whether they can be read, and
whether they say the same. The visible label is for people and is not looked for.
"""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from typing import Literal, NamedTuple

# Imported, so that Pillow looks for no other formats
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

LabelKind = Literal["text", "xmp", "exif", "aigc"]

_FORMATS = ("PNG", "JPEG", "WEBP")
_AI_DESCRIPTION = "AI-generated"
_SOURCE_TYPES = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia")
_XMP = {
    "source_type": "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType",
    "model": "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}AISystemUsed",
    "fingerprint": "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}AISystemVersionUsed",
    "number": "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigImageGUID",
    "software": "{http://ns.adobe.com/xap/1.0/}CreatorTool",
    "created": "{http://ns.adobe.com/xap/1.0/}CreateDate",
    "request": "{http://ns.adobe.com/photoshop/1.0/}TransmissionReference",
}
_XMP_DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
_XMP_AIGC = "{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC"
_RDF_DESCRIPTION = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
_TEXTS = {
    "description": "Description",
    "software": "Software",
    "created": "Creation Time",
    "request": "Request-Id",
}
_EXIF = {"description": 0x010E, "software": 0x0131, "created": 0x0132}


class PictureUnreadable(Exception):
    """The file is no whole PNG, JPEG or WebP; the message is one line."""


class Label(NamedTuple):
    """What one label says; `model`, `software`, `created` and so on where it does."""

    kind: LabelKind
    says: dict[str, str]


class ReadLabels(NamedTuple):
    """`problems`: labels that cannot be read, and what two of them tell differently."""

    format: str
    width_px: int
    height_px: int
    labels: tuple[Label, ...]
    problems: tuple[str, ...]


def read_labels(data: bytes) -> ReadLabels:
    """The labels of a PNG, JPEG or WebP. Raises PictureUnreadable."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            picture.load()  # texts may stand behind the pixels, and a file cut short is not whole
            exif = {name: str(picture.getexif().get(tag, "")) for name, tag in _EXIF.items()}
            texts = {name: text for name, text in picture.info.items() if isinstance(text, str)}
            packet = picture.info.get("xmp", b"")
            told = (picture.format or "", picture.width, picture.height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureUnreadable(f"not a whole PNG, JPEG or WebP: {' '.join(str(error).split())}") from error
    problems: list[str] = []
    labels = [_label("text", {name: texts.get(keyword, "") for name, keyword in _TEXTS.items()})]
    root = _parsed(packet, problems)
    labels.append(_xmp(root, problems))
    exif["created"] = re.sub(r"^(\d{4}):(\d\d):(\d\d) ([\d:]{8})$", r"\1-\2-\3T\4Z", exif["created"])
    labels.append(_label("exif", exif))
    records = {"a PNG text": texts.get("AIGC", ""), "XMP": _property(root, _XMP_AIGC)}
    labels += [_aigc(place, record, problems) for place, record in records.items() if record]
    found = tuple(label for label in labels if label is not None)
    return ReadLabels(*told, found, (*problems, *_contradictions(found)))


def _label(kind: LabelKind, says: dict[str, str]) -> Label | None:
    """A label of AI, and no other software's description of a picture."""
    says = {name: text for name, text in says.items() if text}
    return Label(kind, says) if says.get("description", "").startswith(_AI_DESCRIPTION) else None


def _parsed(packet: bytes | str, problems: list[str]) -> ElementTree.Element | None:
    if not packet:
        return None
    data = packet.encode() if isinstance(packet, str) else packet
    try:
        if b"<!DOCTYPE" in data:  # no packet has one: entities grow
            raise ElementTree.ParseError("a document type")
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError) as error:
        problems.append(f"the XMP packet cannot be read: {error}")
        return None


def _property(root: ElementTree.Element | None, name: str) -> str:
    """An element's text or an attribute of the description: XMP allows both."""
    if root is None:
        return ""
    written = [described.get(name, "") for described in root.iter(_RDF_DESCRIPTION)]
    return (root.findtext(f".//{name}") or next(filter(None, written), "")).strip()


def _xmp(root: ElementTree.Element | None, problems: list[str]) -> Label | None:
    says = {name: text for name, place in _XMP.items() if (text := _property(root, place))}
    described = root.find(f".//{_XMP_DESCRIPTION}") if root is not None else None
    if described is not None:
        says["description"] = "".join(described.itertext()).strip()
    source_type = says.get("source_type", "")
    if source_type.rpartition("/")[2] in _SOURCE_TYPES:
        return Label("xmp", says)
    if source_type and says.get("description", "").startswith(_AI_DESCRIPTION):
        problems.append(f"XMP says AI-generated, and that the source is {source_type}")
    return None


def _aigc(place: str, record: str, problems: list[str]) -> Label | None:
    try:
        fields = json.loads(record)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or str(fields.get("Label")) not in ("1", "2", "3"):
        problems.append(f"the AIGC record in {place} is no JSON object with a Label of 1, 2 or 3: {record[:80]!r}")
        return None
    named = {"label": "Label", "producer": "ContentProducer", "number": "ProduceID", "propagator": "ContentPropagator"}
    return Label("aigc", {ours: str(fields[name]) for ours, name in named.items() if fields.get(name)})


def _contradictions(labels: tuple[Label, ...]) -> list[str]:
    found = []
    for name in dict.fromkeys(name for label in labels for name in label.says):
        told = [(label.kind, label.says[name]) for label in labels if name in label.says]
        # EXIF's texts are ASCII: others are not written there as they are
        told = [one for one in told if one[0] != "exif" or one[1].isascii()]
        if len({text for _, text in told}) > 1:
            found.append(f"labels differ in {name}: " + ", ".join(f"{kind} {text!r}" for kind, text in told))
    return found
