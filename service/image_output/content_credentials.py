"""Content credentials (C2PA): a signed manifest in the picture, which says that a model made it and what with.

The signature covers every byte of the file but its own, the labels included, so it comes last. Nothing is asked over
the network: neither a time stamp nor whether a certificate was revoked. The prompt is not in it.

Needs the extra `c2pa`; nothing here is imported without a key.
"""

import io
import json
import logging
from datetime import UTC, datetime, timedelta

import c2pa
from PIL import Image, PngImagePlugin  # noqa: F401 - the plugin registers with Pillow on import

from service.image_output.provenance import DIGITAL_SOURCE_TYPE, CredentialsUnusable, Provenance
from service.image_output.signing_identity import CERTIFICATE_VARIABLE, read_identity

_log = logging.getLogger(__name__)

_SOON = timedelta(days=30)
# Neither the network nor more bytes: a thumbnail would double a small picture. What was signed is checked at start.
_CONTEXT = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"verify_after_sign": False, "verify_trust": False, "remote_manifest_fetch": False, "ocsp_fetch": False},
}


class ContentCredentials:
    """Signs pictures with one key, from any thread.

    Args:
        key_file, certificate_file: PEM; the certificates in a chain, the signer's first.

    Raises:
        CredentialsUnusable: naming the file and what is wrong with it.
    """

    def __init__(self, key_file: str, certificate_file: str) -> None:
        identity = read_identity(key_file, certificate_file)
        self._expires, self._signer_name = identity.expires, identity.signer
        self._context = c2pa.Context(settings=c2pa.Settings.from_dict(_CONTEXT))
        try:
            self._signer = c2pa.Signer.from_info(
                c2pa.C2paSignerInfo(identity.algorithm, identity.chain_pem, identity.key_pem, None)
            )
            self._try_out()
        except c2pa.C2paError as error:
            reason = " ".join(str(error).split())
            raise CredentialsUnusable(f"{CERTIFICATE_VARIABLE}={certificate_file}: {reason}") from error
        if self._expires - datetime.now(UTC) < _SOON:
            _log.warning(
                "the certificate for content credentials, of %s, expires at %s: pictures are unsigned from then on",
                identity.signer,
                self._expires,
            )

    def sign(self, picture: bytes, output_format: str, provenance: Provenance) -> bytes:
        """The picture with its credentials; as it is, with an error in the log, where it cannot be signed any more."""
        if datetime.now(UTC) >= self._expires:
            _log.error("unsigned: the certificate of %s expired at %s", self._signer_name, self._expires)
            return picture
        try:
            return self._signed(picture, output_format, provenance)
        except c2pa.C2paError as error:
            _log.error("unsigned: no content credentials could be made: %s", error)
            return picture

    def close(self) -> None:
        self._signer.close()
        self._context.close()

    def _signed(self, picture: bytes, output_format: str, provenance: Provenance) -> bytes:
        target = io.BytesIO()
        with c2pa.Builder(json.dumps(manifest(provenance)), self._context) as builder:
            builder.sign(self._signer, f"image/{output_format}", io.BytesIO(picture), target)
        return target.getvalue()

    def _try_out(self) -> None:
        """Sign a picture and read it back: what C2PA refuses is known before any picture leaves."""
        blank = io.BytesIO()
        Image.new("RGB", (8, 8)).save(blank, "PNG")
        signed = self._signed(blank.getvalue(), "png", Provenance("start", 0, "VisCPM", "VisCPM"))
        with c2pa.Reader("image/png", io.BytesIO(signed), context=self._context) as reader:
            results = json.loads(reader.json())
        if results.get("validation_state") not in ("Valid", "Trusted"):
            failures = [one.get("explanation", one["code"]) for one in results.get("validation_status", [])]
            raise c2pa.C2paError("; ".join(failures) or "what it signs is not valid")


def manifest(provenance: Provenance) -> dict[str, object]:
    """The claim: created, as a whole, by a trained model; by which software; when."""
    name, _, version = provenance.software.rpartition(" ")
    software = {"name": name, "version": version} if name else {"name": provenance.software}
    created = {
        "action": "c2pa.created",
        "when": provenance.date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "softwareAgent": software,
        "digitalSourceType": DIGITAL_SOURCE_TYPE,
        "description": provenance.description,
    }
    return {
        "claim_generator_info": [software],
        "title": provenance.content_id,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }
