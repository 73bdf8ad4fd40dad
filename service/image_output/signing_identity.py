"""The key and the certificate chain that content credentials are signed with, checked before anything is signed.

Checked is what C2PA asks of a signer's certificate and what makes signatures that nobody accepts: the key of another
certificate, a time that is over or to come, a use that the certificate does not allow. Whether anybody trusts the chain
is up to the lists of who verifies.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from service.image_output.provenance import CredentialsUnusable

Algorithm = Literal["es256", "ps256", "ed25519"]

KEY_VARIABLE = "VISCPM_C2PA_KEY_FILE"
CERTIFICATE_VARIABLE = "VISCPM_C2PA_CERT_FILE"

_LEAST_RSA_BITS = 2048
# What C2PA lets a signer's certificate be for, one of them at least
_DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
_CLAIM_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
_USES = (ExtendedKeyUsageOID.EMAIL_PROTECTION, _DOCUMENT_SIGNING, _CLAIM_SIGNING)


class SigningIdentity(NamedTuple):
    """`key_pem` is PKCS #8; `chain_pem` begins with the signer's own certificate. `expires`: the first of the chain."""

    algorithm: Algorithm
    key_pem: bytes
    chain_pem: bytes
    expires: datetime
    signer: str


def read_identity(key_file: str, certificate_file: str) -> SigningIdentity:
    """Raises CredentialsUnusable."""
    key = _read_key(key_file)
    chain = _read_chain(certificate_file)
    if _public_bytes(key) != _public_bytes(chain[0]):
        raise CredentialsUnusable(
            f"{KEY_VARIABLE}={key_file}: not the key of the first certificate in {certificate_file}, which is of "
            f"{_name(chain[0])}"
        )
    reason = _unfit(chain[0]) or _broken_chain(chain) or next(filter(None, map(_out_of_time, chain)), "")
    if reason:
        raise CredentialsUnusable(f"{CERTIFICATE_VARIABLE}={certificate_file}: {reason}")
    return SigningIdentity(
        algorithm=_algorithm(key, key_file),
        key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        chain_pem=b"".join(one.public_bytes(Encoding.PEM) for one in chain),
        expires=min(one.not_valid_after_utc for one in chain),
        signer=_name(chain[0]),
    )


def _read_key(file: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(Path(file).read_bytes(), password=None)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    except TypeError:
        reason = "the key is encrypted; one without a password is needed"
    except ValueError:
        reason = "no private key in PEM"
    except Exception as error:  # of a curve or kind that cryptography does not know
        reason = f"no usable private key: {error}"
    raise CredentialsUnusable(f"{KEY_VARIABLE}={file}: {' '.join(reason.split())}")


def _read_chain(file: str) -> list[x509.Certificate]:
    try:
        chain: list[x509.Certificate] = x509.load_pem_x509_certificates(Path(file).read_bytes())
        return chain
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    except ValueError:
        reason = "no certificates in PEM"
    raise CredentialsUnusable(f"{CERTIFICATE_VARIABLE}={file}: {reason}")


def _algorithm(key: PrivateKeyTypes, file: str) -> Algorithm:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return "es256"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return "ps256"
    raise CredentialsUnusable(
        f"{KEY_VARIABLE}={file}: a key of the kind {_kind(key)}; allowed are EC P-256 (es256), RSA of "
        f"{_LEAST_RSA_BITS} bits or more (ps256) and Ed25519"
    )


def _kind(key: PrivateKeyTypes) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return f"EC {key.curve.name}"
    return f"RSA of {key.key_size} bits" if isinstance(key, rsa.RSAPrivateKey) else type(key).__name__.strip("_")


def _unfit(certificate: x509.Certificate) -> str:
    """Why C2PA does not let it sign; empty where it does."""
    who = f"the certificate of {_name(certificate)}"
    try:
        extensions = certificate.extensions
    except ValueError as error:
        return f"{who} has malformed extensions: {error}"
    found = {extension.oid: extension.value for extension in extensions}
    authority = found.get(x509.BasicConstraints.oid)
    if isinstance(authority, x509.BasicConstraints) and authority.ca:
        return f"{who} is an authority's; the signer's own one must come first"
    if certificate.subject == certificate.issuer:
        return f"{who} is signed by itself; C2PA wants one that an authority has signed"
    usage = found.get(x509.KeyUsage.oid)
    if not isinstance(usage, x509.KeyUsage) or not usage.digital_signature:
        return f"{who} is not for signing: its key usage lacks digitalSignature"
    uses = found.get(x509.ExtendedKeyUsage.oid)
    named = list(uses) if isinstance(uses, x509.ExtendedKeyUsage) else []
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in named or not any(use in named for use in _USES):
        told = ", ".join(use._name if use._name != "Unknown OID" else use.dotted_string for use in named) or "nothing"
        return f"{who} is for {told}; C2PA wants the extended key usage emailProtection or documentSigning"
    return ""


def _broken_chain(chain: list[x509.Certificate]) -> str:
    for certificate, issuer in zip(chain, chain[1:], strict=False):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError, TypeError):
            return f"the certificate of {_name(certificate)} is not signed by the next one, of {_name(issuer)}"
    return ""


def _out_of_time(certificate: x509.Certificate) -> str:
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc <= now:
        return (
            f"the certificate of {_name(certificate)} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
    if certificate.not_valid_before_utc > now:
        begins = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return f"the certificate of {_name(certificate)} is valid from {begins} on, not yet"
    return ""


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "nobody"


def _public_bytes(of: PrivateKeyTypes | x509.Certificate) -> bytes:
    der: bytes = of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der
