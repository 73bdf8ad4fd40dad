"""Labels on what is painted, put on where a picture leaves: after the gate chose it, before any response holds it."""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

# Imported, so that Pillow's save looks for no other formats
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

from safety.text.language import Language
from service.core.settings import Settings
from service.image_output import visible_label
from service.image_output.provenance import CredentialsUnusable, Provenance, content_id, embed_in_png, exif, xmp
from service.image_output.visible_label import LabelLanguage, label_language

if TYPE_CHECKING:  # of the extra `c2pa`, and 30 MB in a process: loaded where there is a key
    from service.image_output.content_credentials import ContentCredentials


class Origin(NamedTuple):
    """What a picture was painted for and by. Of a job that has ended only the first three are known."""

    job_id: str
    created: int  # Unix time in seconds
    model: str = ""
    fingerprint: str = ""
    request_id: str = ""
    language: Language = "zh"  # of the prompt


class AILabels:
    """Labels and encodes pictures as the settings say.

    PNG without a visible label gets chunks and keeps all its bytes; all else is encoded anew, in a bounded pool, and so
    are content credentials made: last, since they cover what is there by then.

    Args:
        software: name and version of this service.

    Raises:
        CredentialsUnusable: pictures cannot be signed with the key and certificates that the settings name.
    """

    def __init__(self, settings: Settings, software: str) -> None:
        self._credentials = open_credentials(settings)
        self._kinds = frozenset(settings.label_metadata)
        self._visible = settings.label_visible
        self._producer = settings.label_producer
        self._software = software
        self._pool = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="labels")

    async def picture(self, png: bytes, origin: Origin, number: int, output_format: str, quality: int) -> bytes:
        """A chosen candidate, the `number`th from 1 of its job, in the format asked for."""
        return await self._labelled(png, origin, str(number), output_format, quality)

    async def preview(self, png: bytes, origin: Origin, number: int) -> bytes:
        """A preview, the `number`th from 1 of its job: it says what is still known once the job has ended."""
        known = origin._replace(fingerprint="", request_id="")
        return await self._labelled(png, known, f"preview-{number}", "png", 0)

    def close(self) -> None:
        self._pool.shutdown(wait=self._credentials is not None, cancel_futures=True)
        if self._credentials is not None:
            self._credentials.close()

    async def _labelled(self, png: bytes, origin: Origin, picture: str, output_format: str, quality: int) -> bytes:
        provenance = Provenance(
            content_id=content_id(origin.job_id, picture),
            created=origin.created,
            software=self._software,
            producer=self._producer,
            model=origin.model,
            fingerprint=origin.fingerprint,
            request_id=origin.request_id,
        )
        language = self._language(origin)
        if output_format != "png" or language is not None:
            encode = partial(self._encode, png, output_format, quality, language, provenance)
            png = await asyncio.get_running_loop().run_in_executor(self._pool, encode)
        labelled = embed_in_png(png, provenance, self._kinds) if output_format == "png" else png
        if self._credentials is None:
            return labelled
        sign = partial(self._credentials.sign, labelled, output_format, provenance)
        return await asyncio.get_running_loop().run_in_executor(self._pool, sign)

    def _language(self, origin: Origin) -> LabelLanguage | None:
        """Of the visible label; None: there is none."""
        if self._visible == "off":
            return None
        return label_language(origin.language) if self._visible == "auto" else self._visible

    def _encode(
        self, png: bytes, output_format: str, quality: int, language: LabelLanguage | None, provenance: Provenance
    ) -> bytes:
        """The picture with its visible label; jpeg and webp with their metadata, which only their encoder can add."""
        target = io.BytesIO()
        with Image.open(io.BytesIO(png), formats=("PNG",)) as opened:
            picture = opened.convert("RGB")
        if language is not None:
            visible_label.draw(picture, language)
        if output_format == "png":
            picture.save(target, "PNG", compress_level=1)  # as the engine: more takes several times as long
        else:
            metadata = {"exif": exif(provenance, self._kinds), "xmp": xmp(provenance, self._kinds)}
            present = {name: data for name, data in metadata.items() if data}
            picture.save(target, output_format.upper(), quality=max(1, quality), **present)
        return target.getvalue()


def open_credentials(settings: Settings) -> "ContentCredentials | None":
    """What signs pictures; None: the settings name no key. Raises CredentialsUnusable."""
    if not settings.c2pa_key_file:
        return None
    try:
        from service.image_output.content_credentials import ContentCredentials
    except ModuleNotFoundError as error:
        raise CredentialsUnusable(
            f"VISCPM_C2PA_KEY_FILE={settings.c2pa_key_file}: signing needs {error.name}, which this installation "
            "lacks: install the extra `c2pa`"
        ) from error
    return ContentCredentials(settings.c2pa_key_file, settings.c2pa_cert_file)
