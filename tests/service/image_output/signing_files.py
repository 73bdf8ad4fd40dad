"""Keys and certificates as an operator would have them, made for one test: an authority and what it has signed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_ORGANIZATION = "Test authority"


class SigningFiles(NamedTuple):
    """`authority` is what a verifier would trust."""

    key: Path
    certificates: Path
    authority: Path

    def settings(self) -> dict[str, str]:
        return {"c2pa_key_file": str(self.key), "c2pa_cert_file": str(self.certificates)}


class Authority:
    """Signs certificates."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.sign(self.key, "authority", authority=True)

    def sign(
        self,
        key: CertificateIssuerPrivateKeyTypes,
        name: str,
        *,
        authority: bool = False,
        uses: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
        signs: bool = True,
        begins: timedelta = timedelta(days=-1),
        lasts: timedelta = timedelta(days=90),
    ) -> x509.Certificate:
        began = datetime.now(UTC) + begins
        usage = {
            **dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), not signs
            ),
            **dict.fromkeys(("encipher_only", "decipher_only"), False),
        }
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(began)
            .not_valid_after(began + lasts)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=signs, key_cert_sign=authority, crl_sign=authority, **usage),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if uses and not authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def new_key(algorithm: str) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey:
    if algorithm == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "es256" else rsa.generate_private_key(65537, 2048)


def key_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def signing_files(folder: Path, algorithm: str = "es256") -> SigningFiles:
    """A key of the algorithm, a chain of two certificates, and the upper one alone."""
    authority, key = Authority(), new_key(algorithm)
    files = SigningFiles(*(folder / f"{algorithm}-{name}.pem" for name in ("key", "chain", "authority")))
    files.key.write_bytes(key_pem(key))
    files.certificates.write_bytes(pem(authority.sign(key, f"signer {algorithm}"), authority.certificate))
    files.authority.write_bytes(pem(authority.certificate))
    return files


def _name(common: str) -> x509.Name:
    named = ((NameOID.ORGANIZATION_NAME, _ORGANIZATION), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in named])
