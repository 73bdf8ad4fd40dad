"""What becomes of base64, data URLs, uploads and URLs on their way to a decoder."""

import asyncio
import base64
import hashlib
import threading
from ipaddress import ip_network

import pytest
from PIL import Image

from service.core.errors import ImageFetchDisabled, ServiceError
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.image_input import intake as intake_module
from service.image_input.intake import ImageIntake
from tests.attacks.files import photo, saved
from tests.service.image_input.test_fetch import origin

SIDE_PX = 16


async def test_urls_are_not_fetched_unless_asked_for() -> None:
    intake = ImageIntake(Settings())
    for url in ("HTTPS://example.org/a.png", "file:///etc/passwd"):
        with pytest.raises(ImageFetchDisabled, match="VISCPM_FETCH_IMAGES"):
            await intake.pixels(url, SIDE_PX)
    assert intake.decodes == 0
    intake.close()


async def test_the_intake_gives_pixels_and_their_digest() -> None:
    intake = ImageIntake(Settings())
    data = saved(photo(), "PNG")
    by_text = await intake.pixels(base64.b64encode(data).decode(), SIDE_PX)
    by_bytes = await intake.pixels(data, SIDE_PX)
    assert by_text == by_bytes and len(by_text.rgb) == SIDE_PX**2 * 3 and intake.decodes == 2
    assert by_text.sha256 == hashlib.sha256(by_text.rgb).hexdigest()
    intake.close()


async def test_transparent_pixels_show_the_background_unless_alpha_is_dropped() -> None:
    hidden = saved(Image.new("RGBA", (8, 8), (0, 255, 0, 0)), "PNG")
    for colour, shown in (("#ffffff", b"\xff\xff\xff"), ("#123456", b"\x12\x34\x56")):
        intake = ImageIntake(Settings(image_background=colour))
        assert (await intake.pixels(hidden, 1)).rgb == shown
        assert (await intake.pixels(hidden, 1, drops_alpha=True)).rgb == b"\0\xff\0"
        intake.close()


async def test_a_fetched_picture_is_like_one_that_was_sent() -> None:
    data = saved(photo(), "PNG")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(data)
    async with origin(head + data) as server:
        settings = Settings(
            fetch_images=True, fetch_ports=(server.port,), fetch_allowed_networks=(ip_network("127.0.0.1/32"),)
        )
        metrics = Metrics("api")
        intake = ImageIntake(settings, metrics)
        assert await intake.pixels(f"http://127.0.0.1:{server.port}/", SIDE_PX) == await intake.pixels(data, SIDE_PX)
        for url in ("http://127.0.0.2/", "file:///etc/passwd"):
            with pytest.raises(ServiceError) as caught:
                await intake.pixels(url, SIDE_PX)
            assert caught.value.code == "blocked_url" and caught.value.param == "image"
        intake.close()
    assert b'viscpm_image_fetch_rejected_total{reason="blocked_url"} 2.0' in metrics.render()
    assert b"viscpm_image_rejected_total{" not in metrics.render()


async def test_what_was_there_and_not_accepted_is_counted_apart() -> None:
    metrics = Metrics("api")
    intake = ImageIntake(Settings(max_image_px=100), metrics)
    for source in ("/etc/passwd", b"%PDF-1.7", b"", saved(photo(), "PNG")):
        with pytest.raises(ServiceError):
            await intake.pixels(source, SIDE_PX)
    intake.close()
    for reason, times in (("invalid_base64", 1), ("invalid_image", 2), ("image_too_large", 1)):
        assert b'viscpm_image_rejected_total{reason="%b"} %d.0' % (reason.encode(), times) in metrics.render()
    assert b"viscpm_image_fetch_rejected_total{" not in metrics.render()


async def test_decodes_wait_for_a_thread_and_the_loop_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, gate = 0, 0, threading.Event()

    def slow(*_: object) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        gate.wait(10)
        running -= 1
        return b""

    monkeypatch.setattr(intake_module, "to_pixels", slow)
    intake = ImageIntake(Settings(decode_threads=2))
    tasks = [asyncio.create_task(intake.pixels(b"x", SIDE_PX)) for _ in range(6)]
    await asyncio.sleep(0.05)  # the loop still turns
    gate.set()
    await asyncio.gather(*tasks)
    assert most == 2
    intake.close()
