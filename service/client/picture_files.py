"""Pictures as files: what is sent, and what was painted."""

import base64
from pathlib import Path
from typing import Any

from service.client.exit_codes import CommandError, UsageError

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
READ_SUFFIXES = (*FORMATS, ".gif", ".bmp", ".heic", ".heif", ".avif", ".tif", ".tiff")
_LINKS = ("http://", "https://", "data:")


def picture_field(name: str) -> str:
    """A request's `image`: a file's bytes as base64, or a link as it is. Raises CommandError."""
    if name.startswith(_LINKS):
        return name
    try:
        return base64.b64encode(Path(name).read_bytes()).decode()
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}") from None


def names_picture(text: str) -> bool:
    """Whether a word of the command line is a picture rather than a question."""
    return text.startswith(_LINKS) or text.lower().endswith(READ_SUFFIXES) or _is_file(text)


class PictureFolder:
    """Where painted pictures go: a folder, each named by its seed, or one file, by its suffix.

    Raises:
        UsageError: of a file's name that says no format, or of one for several pictures.
        CommandError: of a folder that cannot be made, and of a file that cannot be written.
    """

    def __init__(self, name: str, num_pictures: int = 1) -> None:
        self._output = output = Path(name)
        self.is_file = bool(output.suffix) and not name.endswith("/") and not output.is_dir()
        self.format = FORMATS.get(output.suffix.lower(), "png") if self.is_file else "png"
        if self.is_file and output.suffix.lower() not in FORMATS:
            raise UsageError(f"{output}: the name of a picture must end in {', '.join(FORMATS)}, that of a folder in /")
        if self.is_file and num_pictures > 1:
            raise UsageError(f"{output} is one file, and {num_pictures} pictures were asked for: name a folder")
        if not self.is_file:
            try:
                output.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CommandError(f"{output}: {error.strerror}") from None

    def write(self, picture: dict[str, Any], output_format: str) -> Path:
        """The file's name. In a folder no picture takes another one's place: the next gets a number."""
        data = base64.b64decode(picture["b64_json"])
        if self.is_file:
            return _written(self._output, data, "wb")
        suffix = {"jpeg": ".jpg"}.get(output_format, f".{output_format}")
        for number in range(1, 1000):
            name = f"{picture['seed']}{f'-{number}' if number > 1 else ''}{suffix}"
            try:
                return _written(self._output / name, data, "xb")
            except FileExistsError:
                continue
        raise CommandError(f"{self._output} has a thousand pictures of the seed {picture['seed']}")


def _written(path: Path, data: bytes, mode: str) -> Path:
    try:
        with path.open(mode) as file:
            file.write(data)
    except FileExistsError:
        raise
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    return path


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a null character
        return False
