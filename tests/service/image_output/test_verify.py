"""`viscpm verify` as its users run it: what it prints, what it ends with."""

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.core.settings import Settings
from service.image_output.ai_labels import AILabels
from service.image_output.verify import main
from tests.service.image_output.signing_files import SigningFiles, signing_files
from tests.service.image_output.test_ai_labels import FORMATS, ORIGIN, picture_png
from tests.service.image_output.test_content_credentials import pixels_at


def labelled(output_format: str, **settings: object) -> bytes:
    labels = AILabels(Settings(**settings), "VisCPM service 0.1.0")  # type: ignore[arg-type]
    try:
        return asyncio.run(labels.picture(picture_png(), ORIGIN, 1, output_format, 90))
    finally:
        labels.close()


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> SigningFiles:
    return signing_files(tmp_path_factory.mktemp("verify"))


@pytest.fixture(scope="module")
def signed(signing: SigningFiles) -> dict[str, bytes]:
    return {output_format: labelled(output_format, **signing.settings()) for output_format in FORMATS}


def verified(path: Path, data: bytes, *flags: str) -> tuple[int, str]:
    path.write_bytes(data)
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", told)
        code = main([*flags, str(path)])
    return code, told.getvalue()


@pytest.mark.parametrize("output_format", FORMATS)
def test_labels_and_credentials_are_told(tmp_path: Path, signed: dict[str, bytes], output_format: str) -> None:
    code, told = verified(tmp_path / "a", signed[output_format])
    assert code == 0 and told.count("\n") >= 5 and told.endswith("  intact\n")
    for part in ("xmp ", "exif ", "aigc ", "credentials ", "signer es256", "valid, signer not checked", "0.1.0"):
        assert part in told
    code, line = verified(tmp_path / "a", signed[output_format], "--json")
    answer = json.loads(line)
    assert code == 0 and answer["intact"] and answer["problems"] == []
    assert answer["credentials"]["state"] == "valid" and not answer["credentials"]["is_tampered"]
    assert {"xmp", "exif", "aigc"} <= {label["kind"] for label in answer["labels"]}


def test_labels_alone_are_enough_and_nothing_is_not(tmp_path: Path) -> None:
    code, told = verified(tmp_path / "a", labelled("png"))
    assert code == 0 and "credentials" not in told
    code, told = verified(tmp_path / "a", picture_png())
    assert code == 1 and "no labels and no credentials" in told


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_changed_picture_is_told(tmp_path: Path, signed: dict[str, bytes], output_format: str) -> None:
    data = bytearray(signed[output_format])
    data[pixels_at(signed[output_format], output_format)] ^= 1
    code, line = verified(tmp_path / "a", bytes(data), "--json")
    answer = json.loads(line)
    assert code == 1 and answer["credentials"]["is_tampered"] and not answer["intact"]
    _, told = verified(tmp_path / "a", bytes(data))
    assert "not valid; changed since it was signed" in told and "problem" in told and "intact" not in told


def test_a_changed_label_is_told(tmp_path: Path, signed: dict[str, bytes]) -> None:
    data = signed["jpeg"].replace(b"AI-generated", b"Hand-painted")
    code, told = verified(tmp_path / "a", data)
    assert code == 1 and "changed since it was signed" in told


def test_with_anchors_credentials_of_theirs_are_a_must(
    tmp_path: Path, signed: dict[str, bytes], signing: SigningFiles
) -> None:
    code, told = verified(tmp_path / "a", signed["png"], "--trust-anchors", str(signing.authority))
    assert code == 0 and "signer trusted" in told
    stranger = signing_files(tmp_path).authority
    code, told = verified(tmp_path / "a", signed["png"], "--trust-anchors", str(stranger))
    assert code == 1 and "signingCredential.untrusted" in told
    again = io.BytesIO()
    Image.open(io.BytesIO(signed["webp"])).save(again, "WEBP")
    code, told = verified(tmp_path / "a", again.getvalue(), "--trust-anchors", str(signing.authority))
    assert code == 1 and "there are no content credentials" in told


@pytest.mark.parametrize(
    ("anchors", "reason"), [(b"nothing", "no certificates in PEM"), (b"\xff\xfe", "no certificates in PEM")]
)
def test_anchors_that_are_none_are_refused(
    tmp_path: Path, signed: dict[str, bytes], anchors: bytes, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "anchors").write_bytes(anchors)
    code, _ = verified(tmp_path / "a", signed["png"], "--trust-anchors", str(tmp_path / "anchors"))
    assert code == 1 and reason in capsys.readouterr().err


@pytest.mark.slow
def test_without_the_extra_labels_are_read_and_credentials_are_named(tmp_path: Path, signed: dict[str, bytes]) -> None:
    (tmp_path / "picture").write_bytes(signed["png"])
    code = (
        "import sys; sys.modules['c2pa'] = None\n"
        "from service.process.cli import main; sys.exit(main(['verify', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "picture")], capture_output=True, text=True)
    assert done.returncode == 1 and "install the extra `c2pa`" in done.stdout and "xmp" in done.stdout, done.stderr


def test_labels_of_strangers_do_not_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_itxt("Description", "AI-generated by \x1b[2J\nintact")
    target = io.BytesIO()
    Image.new("RGB", (4, 4)).save(target, "PNG", pnginfo=info)
    code, told = verified(tmp_path / "a", target.getvalue())
    assert code == 0 and "\x1b" not in told and "AI-generated by \ufffd[2J\ufffdintact" in told


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.png")]) == 1
    assert capsys.readouterr().err == f"viscpm verify: {tmp_path}/none.png: No such file or directory\n"
