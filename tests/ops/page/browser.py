"""Chromium looking at the page: what it logged, whom it asked, and pictures of what it showed."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.debian import absent

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "docs/images"
MAX_SHOT_BYTES = 150_000
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 800}
LIMIT_MS = 60_000.0  # for what takes a second on an idle machine


class Visit:
    """One tab with a log of its own. What the browser says of an answer's status is expected where it is named."""

    def __init__(self, page: Page, url: str, expected: tuple[str, ...]) -> None:
        self.page = page
        self.url = url
        self._expected = expected
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))

    def open(self, path: str = "") -> Page:
        self.page.goto(f"{self.url}/{path}")
        self.page.locator(".dot").wait_for(timeout=LIMIT_MS)  # it knows the service's state
        return self.page

    def shoot(self, name: str) -> None:
        """Into docs/images where PAGE_SHOTS=write asks for it."""
        assert self.is_within(), f"{name}: the page is wider than the window"
        shot = self.page.screenshot()
        if os.environ.get("PAGE_SHOTS") == "write":
            target = IMAGES / f"page_{name}.png"
            colours = Image.open(io.BytesIO(shot)).convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE)
            colours.save(target, optimize=True)
            assert target.stat().st_size <= MAX_SHOT_BYTES

    def is_within(self) -> bool:
        fits: bool = self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        return fits

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(one in message.text for one in self._expected):
            self.errors.append(f"{message.text} {message.location}")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob"):
            self.hosts.add(parts.netloc)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's."""
    program = shutil.which("chromium") or absent("chromium: apt-get install chromium fonts-noto-cjk")
    expect.set_options(timeout=LIMIT_MS)
    with sync_playwright() as playwright:
        # a container's root has no sandbox, and /dev/shm is small there
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
        launched = playwright.chromium.launch(executable_path=program, args=arguments)
        yield launched
        launched.close()


@contextmanager
def visit(browser: Browser, url: str, *expected: str, **settings: Any) -> Iterator[Visit]:
    """A new tab, as of somebody who was never here; at the end its log must be clean.

    Args:
        expected: what may be logged: the browser says of its own accord what status an answer had.
        settings: of the browser's context.
    """
    context = browser.new_context(**{"locale": "en-US", "viewport": DESK, "device_scale_factor": 1, **settings})
    context.set_default_timeout(LIMIT_MS)
    try:
        visited = Visit(context.new_page(), url, expected)
        yield visited
        assert visited.errors == [], "the browser's log is not clean"
        assert visited.hosts == {urlsplit(url).netloc}, "another host was asked"
    finally:
        context.close()
