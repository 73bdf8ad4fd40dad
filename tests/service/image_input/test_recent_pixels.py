"""Pictures that came before are not decoded again, as far as the memory for them goes."""

import pytest

from service.core.settings import Settings
from service.image_input import intake as intake_module
from service.image_input.intake import ImageIntake
from service.image_input.recent_pixels import InputPixels, RecentPixels, SentPicture, sha256_of
from tests.attacks.files import photo, saved


def test_those_not_asked_for_longest_are_dropped() -> None:
    recent = RecentPixels(limit_bytes=30)
    first, second, third = (SentPicture(sha256_of(name), 1, False) for name in ("a", "b", "c"))
    for picture in (first, second):
        recent.put(picture, InputPixels(bytes(12), 2, ""))
    assert recent.get(first) is not None
    recent.put(third, InputPixels(bytes(12), 2, "third"))
    assert recent.get(second) is None and recent.get(first) is not None
    assert recent.get(third) == InputPixels(bytes(12), 2, "third")


def test_one_that_is_larger_than_all_memory_is_not_kept() -> None:
    recent = RecentPixels(limit_bytes=30)
    recent.put(SentPicture(b"", 4, False), InputPixels(bytes(48), 4, ""))
    assert recent.get(SentPicture(b"", 4, False)) is None


async def test_a_picture_is_decoded_once_for_each_way_to_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    to_pixels = intake_module.to_pixels

    def counted(data: bytes, side_px: int, *rest: object) -> bytes:
        decoded.append(side_px)
        return to_pixels(data, side_px, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(intake_module, "to_pixels", counted)
    intake = ImageIntake(Settings())
    data = saved(photo(), "PNG")
    ways = [(8, False), (8, True), (9, False)]
    seen = [await intake.pixels(data, side_px, drops_alpha) for side_px, drops_alpha in ways]
    assert decoded == [8, 8, 9]
    assert [await intake.pixels(data, side_px, drops_alpha) for side_px, drops_alpha in ways] == seen
    assert decoded == [8, 8, 9] and intake.decodes == 6
    intake.close()


async def test_a_broken_picture_is_broken_again() -> None:
    intake = ImageIntake(Settings())
    for _ in range(2):
        with pytest.raises(Exception, match="image"):
            await intake.pixels(b"%PDF-1.7", 8)
    intake.close()


async def test_a_large_one_is_told_by_its_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "_HASHED_AT_ONCE_BYTES", 10)
    intake = ImageIntake(Settings())
    data = saved(photo(), "PNG")
    assert len(data) > 10 and await intake.pixels(data, 8) is await intake.pixels(data, 8)
    intake.close()
