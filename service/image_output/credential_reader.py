"""Content credentials of a picture, whoever signed them: who, with what claim, and whether anything was changed since.

Needs the extra `c2pa`. Nothing is asked over the network: credentials that a file only links to count as none.
"""

import io
import json
from typing import Any, Literal, NamedTuple

import c2pa

from service.image_output.provenance import AnchorsUnusable

# By the validation state of C2PA: well formed and unchanged; that, and signed by whom an anchor vouches for
State = Literal["valid", "trusted", "invalid"]
_STATES: dict[str, State] = {"Valid": "valid", "Trusted": "trusted"}


class Credentials(NamedTuple):
    """`signed_at` is of a time stamp, which few have; `created` is what the signer claims. Empty: not told."""

    state: State
    signer: str = ""
    organization: str = ""
    algorithm: str = ""
    signed_at: str = ""
    created: str = ""
    software: str = ""
    source_type: str = ""
    is_tampered: bool = False
    problems: tuple[str, ...] = ()


def read_credentials(data: bytes, picture_format: str, anchors_pem: str = "") -> Credentials | None:
    """None: there are none.

    Args:
        picture_format: png, jpeg or webp.
        anchors_pem: certificates of authorities; with them, a signer whom none vouches for is a problem.

    Raises:
        AnchorsUnusable: these are no certificates.
    """
    settings: dict[str, Any] = {
        "verify": {"verify_trust": bool(anchors_pem), "remote_manifest_fetch": False, "ocsp_fetch": False}
    }
    if anchors_pem:
        settings["trust"] = {"trust_anchors": anchors_pem}
    try:
        read_settings = c2pa.Settings.from_dict(settings)
    except c2pa.C2paError as error:
        raise AnchorsUnusable("no certificates in PEM") from error
    with c2pa.Context(settings=read_settings) as context:
        try:
            with c2pa.Reader(f"image/{picture_format}", io.BytesIO(data), context=context) as reader:
                store = json.loads(reader.json())
        except c2pa.C2paError.ManifestNotFound:
            return None
        except c2pa.C2paError as error:
            return Credentials("invalid", is_tampered=True, problems=(" ".join(str(error).split()),))
    return _credentials(store, bool(anchors_pem))


def _credentials(store: dict[str, Any], has_anchors: bool) -> Credentials:
    manifest = store.get("manifests", {}).get(store.get("active_manifest"), {})
    signature = manifest.get("signature_info", {})
    created = _created(manifest)
    failures = [
        one
        for one in store.get("validation_status", [])
        if has_anchors or one["code"] != "signingCredential.untrusted"  # nobody was asked whom to trust
    ]
    return Credentials(
        state=_STATES.get(store.get("validation_state", ""), "invalid"),
        signer=signature.get("common_name", ""),
        organization=signature.get("issuer", ""),
        algorithm=signature.get("alg", "").lower(),
        signed_at=signature.get("time", ""),
        created=created.get("when", ""),
        software=_software(created.get("softwareAgent", "")),
        source_type=created.get("digitalSourceType", ""),
        is_tampered=any(one["code"].endswith("mismatch") for one in failures),
        problems=tuple(f"{one['code']}: {one.get('explanation', '')}".rstrip(": ") for one in failures),
    )


def _created(manifest: dict[str, Any]) -> dict[str, Any]:
    """The first action that tells how the picture came to be."""
    for assertion in manifest.get("assertions", []):
        if assertion.get("label", "").startswith("c2pa.actions"):
            for action in assertion["data"].get("actions", []):
                if action.get("digitalSourceType"):
                    return dict(action)
    return {}


def _software(agent: str | dict[str, str]) -> str:
    return agent if isinstance(agent, str) else f"{agent.get('name', '')} {agent.get('version', '')}".strip()
