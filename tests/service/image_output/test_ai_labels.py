"""Labels as settings choose them, in every format that the API answers with, read back by Pillow."""

import asyncio
import io
import json
import random
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Callable

import pytest
from PIL import Image

from safety.text.language import Language
from service.core.settings import Settings, SettingsError, read_settings
from service.image_output.ai_labels import AILabels, Origin

AIGC = "{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC"
SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
ORIGIN = Origin("paint-abc", 1_760_000_000, "painter", "f00d", "req-1", "en")
FORMATS = ["png", "jpeg", "webp"]

Make = Callable[..., AILabels]


@pytest.fixture
async def labels_of() -> AsyncIterator[Make]:
    made: list[AILabels] = []

    def make(**settings: object) -> AILabels:
        made.append(AILabels(Settings(**settings), "VisCPM service 0.1.0"))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for labels in made:
        labels.close()


def picture_png(side_px: int = 96) -> bytes:
    target = io.BytesIO()
    noise = random.Random(side_px).randbytes(3 * side_px**2)
    Image.frombytes("RGB", (side_px, side_px), noise).save(target, "PNG", compress_level=1)
    return target.getvalue()


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def packet(picture: Image.Image) -> ElementTree.Element | None:
    data = picture.info.get("xmp")
    return None if data is None else ElementTree.fromstring(data)


@pytest.mark.parametrize("output_format", FORMATS)
async def test_every_format_carries_xmp_exif_and_aigc_by_default(labels_of: Make, output_format: str) -> None:
    picture = opened(await labels_of().picture(picture_png(), ORIGIN, 2, output_format, 90))
    assert picture.format == output_format.upper() and picture.size == (96, 96)
    root = packet(picture)
    assert root is not None and (root.findtext(f".//{SOURCE_TYPE}") or "").endswith("/trainedAlgorithmicMedia")
    record = json.loads(root.findtext(f".//{AIGC}") or "")
    assert record["Label"] == "1" and record["ContentProducer"] == "VisCPM" and record["ProduceID"].endswith("-2")
    assert picture.getexif()[0x0131] == "VisCPM service 0.1.0" and picture.getexif()[0x0132] == "2025:10:09 08:53:20"
    if output_format == "png":
        assert picture.info["Source"] == "painter f00d" and json.loads(picture.info["AIGC"]) == record


@pytest.mark.parametrize("output_format", FORMATS)
async def test_pixels_are_as_without_labels(labels_of: Make, output_format: str) -> None:
    labelled = await labels_of().picture(picture_png(), ORIGIN, 1, output_format, 80)
    bare = await labels_of(label_metadata=()).picture(picture_png(), ORIGIN, 1, output_format, 80)
    assert opened(labelled).tobytes() == opened(bare).tobytes()
    if output_format == "png":
        assert opened(bare).tobytes() == opened(picture_png()).tobytes() and bare == picture_png()


@pytest.mark.parametrize("output_format", FORMATS)
async def test_all_off_leaves_no_metadata(labels_of: Make, output_format: str) -> None:
    picture = opened(await labels_of(label_metadata=()).picture(picture_png(), ORIGIN, 1, output_format, 80))
    assert packet(picture) is None and not picture.getexif() and "Software" not in picture.info


@pytest.mark.parametrize("output_format", FORMATS)
async def test_the_visible_label_comes_with_the_metadata(labels_of: Make, output_format: str) -> None:
    labelled = opened(await labels_of(label_visible="auto").picture(picture_png(), ORIGIN, 1, output_format, 100))
    plain = opened(await labels_of().picture(picture_png(), ORIGIN, 1, output_format, 100))
    assert labelled.tobytes() != plain.tobytes() and packet(labelled) is not None
    if output_format == "png":
        upper = (0, 0, 96, 70)
        assert labelled.crop(upper).tobytes() == plain.crop(upper).tobytes()


async def test_the_visible_label_follows_the_prompt_or_the_setting(labels_of: Make) -> None:
    async def painted(visible: str, language: Language) -> bytes:
        origin = ORIGIN._replace(language=language)
        labels = labels_of(label_visible=visible, label_metadata=())
        return await labels.picture(picture_png(), origin, 1, "png", 100)

    chinese, english = await painted("zh", "en"), await painted("en", "zh")
    assert chinese != english
    assert await painted("auto", "zh") == chinese == await painted("auto", "ja")
    assert await painted("auto", "en") == english == await painted("auto", "other")


async def test_previews_are_labelled_and_numbered_apart(labels_of: Make) -> None:
    labels = labels_of()
    preview, picture = (
        opened(await labels.preview(picture_png(), ORIGIN, 1)),
        opened(await labels.picture(picture_png(), ORIGIN, 1, "png", 100)),
    )
    numbers = [json.loads(one.info["AIGC"])["ProduceID"] for one in (preview, picture)]
    assert numbers == [numbers[1].removesuffix("-1") + "-preview-1", numbers[1]]
    assert preview.tobytes() == picture.tobytes()


async def test_the_same_picture_gets_the_same_bytes_from_any_process(labels_of: Make) -> None:
    first = await labels_of(label_visible="auto").picture(picture_png(), ORIGIN, 1, "jpeg", 80)
    assert first == await labels_of(label_visible="auto").picture(picture_png(), ORIGIN, 1, "jpeg", 80)


async def test_encoding_leaves_the_event_loop_free(labels_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    save = Image.Image.save

    def noting_save(self: Image.Image, *arguments: object, **options: object) -> None:
        threads.add(threading.get_ident())
        save(self, *arguments, **options)  # type: ignore[arg-type]

    png, labels = picture_png(), labels_of(decode_threads=1)
    monkeypatch.setattr(Image.Image, "save", noting_save)
    await asyncio.gather(*(labels.picture(png, ORIGIN, number, "jpeg", 80) for number in range(1, 5)))
    assert len(threads) == 1 and threading.get_ident() not in threads


async def test_metadata_cost_next_to_nothing(labels_of: Make) -> None:
    labels = labels_of()
    for side_px, limit_s in ((96, 0.002), (512, 0.015)):
        png, spent_s = picture_png(side_px), []
        for _ in range(5):
            began_s = time.perf_counter()
            await labels.picture(png, ORIGIN, 1, "png", 100)
            spent_s.append(time.perf_counter() - began_s)
        assert min(spent_s) < limit_s


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VISCPM_LABEL_METADATA", "xmp,iptc", "VISCPM_LABEL_METADATA"),
        ("VISCPM_LABEL_VISIBLE", "on", "VISCPM_LABEL_VISIBLE=on"),
        ("VISCPM_LABEL_PRODUCER", 'a "firm"', "VISCPM_LABEL_PRODUCER"),
        ("VISCPM_LABEL_PRODUCER", "", "VISCPM_LABEL_PRODUCER"),
        ("VISCPM_LABEL_PRODUCER", "x" * 65, "VISCPM_LABEL_PRODUCER"),
    ],
)
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=message):
        read_settings()


def test_settings_read_names_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_LABEL_METADATA", " aigc, xmp")
    monkeypatch.setenv("VISCPM_LABEL_PRODUCER", "某公司 001191110102MAD55U9H0F1")
    assert read_settings().label_metadata == ("aigc", "xmp")
    monkeypatch.setenv("VISCPM_LABEL_METADATA", "")
    assert read_settings().label_metadata == ()
