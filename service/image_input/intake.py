"""Pictures in: base64, data URL, uploaded bytes or http(s) URL → the model's input pixels.

A picture is held in full only inside one decode, in a pool of `decode_threads`; what leaves is the model's size.
Covered elsewhere: base64 and data URLs (base64_text.py), URLs (fetch.py), formats and sizes (formats.py), pixels
(decoding.py).
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from service.core.errors import ImageFetchDisabled, ServiceError
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.image_input.base64_text import decode_base64
from service.image_input.decoding import to_pixels
from service.image_input.other_formats import installed
from service.image_input.recent_pixels import InputPixels, RecentPixels, SentPicture, sha256_of
from service.image_input.transparency import parse_colour

if TYPE_CHECKING:  # an HTTP client that most installations do without
    from service.image_input.fetch import Fetcher

_T = TypeVar("_T")

_URL_START = re.compile(r"[a-z][a-z0-9+.-]{0,15}://", re.IGNORECASE)  # of any scheme; no base64 looks like it


_RECENT_BYTES = 16 * 2**20  # a hundred pictures of the published models' side
_HASHED_AT_ONCE_BYTES = 2**18  # of what was sent: its digest takes less than to have a thread make it


class ImageIntake:
    """Decodes pictures in a bounded pool; `decodes` counts the pictures that were decoded, or known from before."""

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._extra = installed()
        self._background = parse_colour(settings.image_background)
        self._pool = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="images")
        self._recent = RecentPixels(_RECENT_BYTES)
        self.fetcher = _fetcher(settings) if settings.fetch_images else None
        self.decodes = 0

    async def pixels(self, source: str | bytes, side_px: int, drops_alpha: bool = False) -> InputPixels:
        """The model's input pixels of a picture.

        Args:
            source: base64, a data URL or an http(s) URL; or the bytes of an upload.
            side_px: of the square that the checkpoint wants.
            drops_alpha: transparent pixels show their own colours, as in the reference, and not the background.

        Raises:
            InvalidBase64, InvalidImage, ImageTooLarge: what is wrong with it.
            ImageFetchDisabled, BlockedUrl, ImageFetchFailed: a URL that is not, may not be or could not be fetched.
        """
        if isinstance(source, str) and _URL_START.match(source):
            with self._counted("image_fetch_rejected_total"):
                source = await self._fetch(source)
        self.decodes += 1
        is_small = len(source) <= _HASHED_AT_ONCE_BYTES
        sha256 = sha256_of(source) if is_small else await self._run(sha256_of, source)
        picture = SentPicture(sha256, side_px, drops_alpha)
        pixels = self._recent.get(picture)
        if pixels is None:
            with self._counted("image_rejected_total"):
                pixels = await self._run(self._decode, source, side_px, drops_alpha)
            self._recent.put(picture, pixels)
        return pixels

    @contextmanager
    def _counted(self, metric: str) -> Iterator[None]:
        try:
            yield
        except ServiceError as error:
            if self._metrics is not None:
                self._metrics.count(metric, reason=error.code)
            raise

    async def _fetch(self, url: str) -> bytes:
        if self.fetcher is None:
            raise ImageFetchDisabled(
                "fetching pictures from URLs is off here (VISCPM_FETCH_IMAGES); send base64 instead", param="image"
            )
        return await self.fetcher.fetch(url)

    async def _run(self, function: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def _decode(self, source: str | bytes, side_px: int, drops_alpha: bool) -> InputPixels:
        data = decode_base64(source) if isinstance(source, str) else source
        background = None if drops_alpha else self._background
        settings = self._settings
        rgb = to_pixels(data, side_px, settings.max_image_px, settings.decode_limit_s, background, self._extra)
        return InputPixels(rgb, side_px, hashlib.sha256(rgb).hexdigest())

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self.fetcher is not None:
            self.fetcher.close()


def _fetcher(settings: Settings) -> "Fetcher":
    from service.image_input.fetch import Fetcher

    return Fetcher(settings)
