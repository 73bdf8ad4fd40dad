"""Pictures as files: what is sent, where painted ones go, and none that takes another's place."""

import base64
from pathlib import Path

import pytest

from service.client.exit_codes import CommandError, UsageError
from service.client.picture_files import PictureFolder, names_picture, picture_field

PICTURE = {"b64_json": base64.b64encode(b"pixels").decode(), "seed": 7}


def test_a_folder_holds_pictures_by_their_seeds(tmp_path: Path) -> None:
    folder = PictureFolder(str(tmp_path / "new" / "out"), 4)
    names = [folder.write(PICTURE, output_format).name for output_format in ("png", "png", "jpeg", "png")]
    assert names == ["7.png", "7-2.png", "7.jpg", "7-3.png"]
    assert (tmp_path / "new/out/7.png").read_bytes() == b"pixels"


def test_one_file_is_in_the_format_of_its_name(tmp_path: Path) -> None:
    for name, output_format in (("a.png", "png"), ("a.JPG", "jpeg"), ("a.webp", "webp")):
        folder = PictureFolder(str(tmp_path / name))
        assert folder.is_file and folder.format == output_format
        assert folder.write(PICTURE, output_format) == tmp_path / name
    assert not PictureFolder(f"{tmp_path}/v1.0/").is_file


@pytest.mark.parametrize(
    ("name", "num_pictures", "message"),
    [("x.txt", 1, "must end in .png"), ("x.png", 2, "is one file, and 2 pictures were asked for")],
)
def test_a_name_that_cannot_be_is_usage(name: str, num_pictures: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PictureFolder(name, num_pictures)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CommandError, match="file: "):
        PictureFolder(str(tmp_path / "file"))
    with pytest.raises(CommandError, match="No such file"):
        PictureFolder(str(tmp_path / "none" / "x.png")).write(PICTURE, "png")


def test_a_picture_is_sent_as_its_bytes_or_as_its_link(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"pixels")
    assert base64.b64decode(picture_field(str(tmp_path / "a.png"))) == b"pixels"
    assert picture_field("https://example.org/a.png") == "https://example.org/a.png"
    with pytest.raises(CommandError, match="No such file"):
        picture_field("none.png")


def test_a_word_is_a_picture_where_it_looks_like_one(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"pixels")
    assert names_picture(str(tmp_path / "picture")) and names_picture("none.JPG") and names_picture("data:image/png;x")
    assert not names_picture("what is this?") and not names_picture("你好" * 500) and not names_picture("a\0b")
