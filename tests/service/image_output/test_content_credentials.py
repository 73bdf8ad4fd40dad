"""Pictures signed as the settings say: read back by the library, and broken by every change."""

import asyncio
import io
import json
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import c2pa
import pytest
from PIL import Image

from service.core.settings import Settings, SettingsError, read_settings
from service.image_output.ai_labels import AILabels
from service.image_output.content_credentials import ContentCredentials, manifest
from service.image_output.credential_reader import Credentials, read_credentials
from service.image_output.provenance import CredentialsUnusable, Provenance
from tests.service.image_output.signing_files import Authority, SigningFiles, key_pem, new_key, pem, signing_files
from tests.service.image_output.test_ai_labels import FORMATS, ORIGIN, opened, picture_png

SOFTWARE = "VisCPM service 0.1.0"
PROVENANCE = Provenance("f00d-1", 1_760_000_000, SOFTWARE, "VisCPM", model="painter")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SigningFiles:
    return signing_files(tmp_path_factory.mktemp("signing"))


@pytest.fixture
async def labels(files: SigningFiles) -> AsyncIterator[AILabels]:
    made = AILabels(Settings(**files.settings(), label_visible="auto"), SOFTWARE)  # type: ignore[arg-type]
    yield made
    made.close()


def credentials(data: bytes, output_format: str) -> Credentials:
    found = read_credentials(data, output_format)
    assert found is not None
    return found


@pytest.mark.parametrize("output_format", FORMATS)
async def test_the_signature_is_last_and_covers_the_labels(
    labels: AILabels, files: SigningFiles, output_format: str
) -> None:
    signed = await labels.picture(picture_png(), ORIGIN, 1, output_format, 90)
    found = read_credentials(signed, output_format, files.authority.read_text())
    assert found == Credentials(
        state="trusted",
        signer="signer es256",
        organization="Test authority",
        algorithm="es256",
        created="2025-10-09T08:53:20Z",
        software=SOFTWARE,
        source_type="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    )
    unsigned = AILabels(Settings(label_visible="auto"), SOFTWARE)
    bare = await unsigned.picture(picture_png(), ORIGIN, 1, output_format, 90)
    assert opened(signed).tobytes() == opened(bare).tobytes() and read_credentials(bare, output_format) is None
    for old, new in ((b"VisCPM service 0.1.0", b"Somebodies tool 9.99"), (b"trainedAlgorithmicMedia", b"d" * 23)):
        changed = signed.replace(old, new, 1)
        assert changed != signed and credentials(changed, output_format).state == "invalid", old


def pixels_at(signed: bytes, output_format: str) -> int:
    """A place among the pixels: WebP has its metadata behind them, the others before."""
    return 1000 if output_format == "webp" else len(signed) - 2000


@pytest.mark.parametrize("algorithm", ["ps256", "ed25519"])
def test_other_kinds_of_keys_sign_too(tmp_path: Path, algorithm: str) -> None:
    files = signing_files(tmp_path, algorithm)
    signer = ContentCredentials(str(files.key), str(files.certificates))
    found = credentials(signer.sign(picture_png(), "png", PROVENANCE), "png")
    signer.close()
    assert (found.state, found.algorithm, found.problems) == ("valid", algorithm, ())


def test_the_claim_holds_what_is_known_and_no_prompt() -> None:
    claim = manifest(PROVENANCE)
    assert claim["claim_generator_info"] == [{"name": "VisCPM service", "version": "0.1.0"}]
    action = claim["assertions"][0]["data"]["actions"][0]  # type: ignore[index]
    assert set(action) == {"action", "when", "softwareAgent", "digitalSourceType", "description"}
    assert "origin" not in json.dumps(claim) and claim["title"] == "f00d-1"


async def test_previews_are_signed_as_pictures_are(labels: AILabels) -> None:
    preview = await labels.preview(picture_png(), ORIGIN, 1)
    assert credentials(preview, "png").state == "valid"


@pytest.mark.parametrize("output_format", FORMATS)
async def test_changed_and_newly_encoded_pictures_fail(labels: AILabels, output_format: str) -> None:
    signed = await labels.picture(picture_png(), ORIGIN, 1, output_format, 90)
    middle = pixels_at(signed, output_format)
    pixels = signed[:middle] + bytes([signed[middle] ^ 1]) + signed[middle + 1 :]
    found = credentials(pixels, output_format)
    assert found.state == "invalid" and found.is_tampered and "dataHash.mismatch" in found.problems[0]
    again = io.BytesIO()
    opened(signed).save(again, output_format.upper())
    assert read_credentials(again.getvalue(), output_format) is None, "the encoder drops what it does not know"


def test_a_signature_on_another_picture_does_not_count(files: SigningFiles) -> None:
    signer = ContentCredentials(str(files.key), str(files.certificates))
    signed = signer.sign(picture_png(), "png", PROVENANCE)
    signer.close()
    start = signed.index(b"caBX") - 4
    chunk = signed[start : start + 12 + int.from_bytes(signed[start : start + 4], "big")]
    other = picture_png(48)
    assert credentials(other[:33] + chunk + other[33:], "png").is_tampered


@pytest.mark.slow
async def test_many_at_once_from_several_threads(files: SigningFiles) -> None:
    labels = AILabels(Settings(**files.settings(), decode_threads=4), SOFTWARE)  # type: ignore[arg-type]
    signed = await asyncio.gather(*(labels.picture(picture_png(16), ORIGIN, n, "png", 90) for n in range(1, 33)))
    labels.close()
    assert {credentials(one, "png").state for one in signed} == {"valid"} and len(set(signed)) == 32


def test_a_certificate_that_expires_later_leaves_pictures_unsigned_and_says_so(
    files: SigningFiles, caplog: pytest.LogCaptureFixture
) -> None:
    signer = ContentCredentials(str(files.key), str(files.certificates))
    signer._expires = datetime.now(UTC) - timedelta(seconds=1)
    with caplog.at_level(logging.ERROR):
        assert signer.sign(picture_png(), "png", PROVENANCE) == picture_png()
    signer.close()
    assert "unsigned: the certificate of CN=signer es256" in caplog.text


def test_one_that_expires_soon_is_told_at_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority, key = Authority(), new_key("es256")
    (tmp_path / "key").write_bytes(key_pem(key))
    (tmp_path / "chain").write_bytes(pem(authority.sign(key, "signer", lasts=timedelta(days=20))))
    ContentCredentials(str(tmp_path / "key"), str(tmp_path / "chain")).close()
    assert "expires at" in caplog.text and "CN=signer" in caplog.text


def test_what_the_library_refuses_is_known_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks before are ours; should one be missing, the picture signed for trial tells."""
    authority, key = Authority(), new_key("es256")
    (tmp_path / "key").write_bytes(key_pem(key))
    (tmp_path / "chain").write_bytes(pem(authority.sign(key, "signer", uses=[])))
    monkeypatch.setattr("service.image_output.signing_identity._unfit", lambda certificate: "")
    with pytest.raises(CredentialsUnusable, match="CERT_FILE=.*chain: .*certificate") as told:
        ContentCredentials(str(tmp_path / "key"), str(tmp_path / "chain"))
    assert "\n" not in str(told.value)


def test_one_file_without_the_other_is_refused(files: SigningFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_C2PA_KEY_FILE", str(files.key))
    with pytest.raises(SettingsError, match="VISCPM_C2PA_KEY_FILE is set and VISCPM_C2PA_CERT_FILE is not"):
        read_settings()
    monkeypatch.setenv("VISCPM_C2PA_CERT_FILE", str(files.certificates) + "x")
    with pytest.raises(SettingsError, match=r"VISCPM_C2PA_CERT_FILE=.*pemx: there is no such file"):
        read_settings()


def test_signing_costs_milliseconds(files: SigningFiles) -> None:
    signer, png, spent_s = ContentCredentials(str(files.key), str(files.certificates)), picture_png(512), []
    for _ in range(5):
        began_s = time.perf_counter()
        signer.sign(png, "png", PROVENANCE)
        spent_s.append(time.perf_counter() - began_s)
    signer.close()
    assert min(spent_s) < 0.1


@pytest.mark.slow
def test_no_thumbnail_is_added(files: SigningFiles) -> None:
    signer = ContentCredentials(str(files.key), str(files.certificates))
    signed = signer.sign(picture_png(512), "png", PROVENANCE)
    signer.close()
    assert 0 < len(signed) - len(picture_png(512)) < 6000 and c2pa.sdk_version()
    assert Image.open(io.BytesIO(signed)).size == (512, 512)
