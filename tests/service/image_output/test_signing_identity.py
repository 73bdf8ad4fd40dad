"""Keys and certificates that cannot sign are named at once: the variable, the file, the reason, in one line."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from service.image_output.provenance import CredentialsUnusable
from service.image_output.signing_identity import read_identity
from tests.service.image_output.signing_files import Authority, key_pem, new_key, pem, signing_files


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["es256", "ps256", "ed25519"])
def test_the_algorithm_is_the_keys(tmp_path: Path, algorithm: str) -> None:
    files = signing_files(tmp_path, algorithm)
    identity = read_identity(str(files.key), str(files.certificates))
    assert identity.algorithm == algorithm and f"signer {algorithm}" in identity.signer
    assert identity.chain_pem.count(b"BEGIN CERTIFICATE") == 2 and b"BEGIN PRIVATE KEY" in identity.key_pem


def test_a_key_in_the_older_form_of_openssl_is_read(tmp_path: Path) -> None:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    (tmp_path / "chain").write_bytes(pem(authority.sign(key, "signer")))
    assert read_identity(str(tmp_path / "key"), str(tmp_path / "chain")).algorithm == "es256"


Case = tuple[bytes, bytes]
KEY = new_key("es256")
AUTHORITY = Authority()
GOOD = pem(AUTHORITY.sign(KEY, "signer"), AUTHORITY.certificate)


def _curve() -> Case:
    key = ec.generate_private_key(ec.SECP384R1())
    return key_pem(key), pem(AUTHORITY.sign(key, "signer"))


def _short_rsa() -> Case:
    key = rsa.generate_private_key(65537, 1024)
    return key_pem(key), pem(AUTHORITY.sign(key, "signer"))


def _encrypted() -> Case:
    return KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")), GOOD


def _self_signed() -> Case:
    own = Authority()
    return key_pem(own.key), pem(own.sign(own.key, "authority"))


def _with(**signed: object) -> Callable[[], Case]:
    return lambda: (key_pem(KEY), pem(AUTHORITY.sign(KEY, "signer", **signed), AUTHORITY.certificate))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("case", "variable", "reason"),
    [
        (lambda: (b"no key", GOOD), "KEY", "no private key in PEM"),
        (_encrypted, "KEY", "the key is encrypted"),
        (lambda: (key_pem(new_key("es256")), GOOD), "KEY", "not the key of the first certificate in .*CN=signer"),
        (_curve, "KEY", "a key of the kind EC secp384r1; allowed are EC P-256"),
        (_short_rsa, "KEY", "RSA of 1024 bits; allowed"),
        (lambda: (key_pem(KEY), b"no certificate"), "CERT", "no certificates in PEM"),
        (_with(lasts=timedelta(hours=1)), "CERT", "CN=signer.* expired at 20"),
        (_with(begins=timedelta(days=1)), "CERT", "valid from .* on, not yet"),
        (_with(signs=False), "CERT", "lacks digitalSignature"),
        (_with(uses=[ExtendedKeyUsageOID.SERVER_AUTH]), "CERT", "is for serverAuth; C2PA wants .*emailProtection"),
        (_with(uses=[]), "CERT", "is for nothing; C2PA wants"),
        (_with(authority=True), "CERT", "is an authority's"),
        (_self_signed, "CERT", "is signed by itself"),
        (
            lambda: (key_pem(KEY), pem(AUTHORITY.sign(KEY, "signer"), Authority().certificate)),
            "CERT",
            "is not signed by the next one",
        ),
    ],
)
def test_what_cannot_sign_is_named(tmp_path: Path, case: Callable[[], Case], variable: str, reason: str) -> None:
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    for file, content in zip((key, chain), case(), strict=True):
        file.write_bytes(content)
    with pytest.raises(CredentialsUnusable) as told:
        read_identity(str(key), str(chain))
    file = {"KEY": key, "CERT": chain}[variable]
    assert str(told.value).startswith(f"VISCPM_C2PA_{variable}_FILE={file}: ") and "\n" not in str(told.value)
    assert re.search(reason, str(told.value)), str(told.value)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsUnusable, match=r"KEY_FILE=.*gone.pem: cannot be read: No such file"):
        read_identity(str(tmp_path / "gone.pem"), str(tmp_path / "chain.pem"))
