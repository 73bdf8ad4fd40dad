"""Credentials of any signer: whose, whether changed, whether by somebody who is vouched for."""

from pathlib import Path

import pytest

from service.image_output.content_credentials import ContentCredentials
from service.image_output.credential_reader import read_credentials
from tests.service.image_output.signing_files import signing_files
from tests.service.image_output.test_ai_labels import picture_png
from tests.service.image_output.test_content_credentials import PROVENANCE


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """A picture, and the authority above its signer."""
    files = signing_files(tmp_path_factory.mktemp("signed"))
    signer = ContentCredentials(str(files.key), str(files.certificates))
    picture = signer.sign(picture_png(), "png", PROVENANCE)
    signer.close()
    return picture, files.authority.read_text()


def test_a_picture_without_any(signed: tuple[bytes, str]) -> None:
    assert read_credentials(picture_png(), "png", signed[1]) is None


def test_trust_is_asked_of_anchors_alone(signed: tuple[bytes, str], tmp_path: Path) -> None:
    picture, authority = signed
    without = read_credentials(picture, "png")
    assert without is not None and (without.state, without.problems) == ("valid", ())
    vouched = read_credentials(picture, "png", authority)
    assert vouched is not None and (vouched.state, vouched.problems) == ("trusted", ())
    stranger = read_credentials(picture, "png", signing_files(tmp_path).authority.read_text())
    assert stranger is not None and not stranger.is_tampered
    assert stranger.problems == ("signingCredential.untrusted: signing certificate untrusted",)


def test_a_broken_box_is_told_as_tampered(signed: tuple[bytes, str]) -> None:
    picture, _ = signed
    found = read_credentials(picture.replace(b"c2pa.signature", b"c2pa.signatura"), "png")
    assert found is not None and found.state == "invalid" and found.is_tampered and found.problems
