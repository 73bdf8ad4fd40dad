"""A conversation's picture as a file, for who takes it along."""

import io

from PIL import Image, PngImagePlugin  # noqa: F401 - the plugin registers with Pillow on import


def png_of(rgb: bytes, side_px: int) -> bytes:
    """PNG of RGB uint8, row-major, `side_px` × `side_px` × 3 bytes: read again, it is the same pixels."""
    target = io.BytesIO()
    Image.frombytes("RGB", (side_px, side_px), rgb).save(target, "PNG")
    return target.getvalue()
