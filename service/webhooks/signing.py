"""Signatures as Standard Webhooks (standardwebhooks.com) has them: whoever is called back can tell who calls.

What is signed is the message's id, the time of the try and the body, so neither can be put to another; a receiver that
looks at the time refuses what somebody kept to send again.
"""

import hashlib
import hmac
from base64 import b64encode

from service.core.setting_types import webhook_keys


class Signer:
    """Signs with every secret of VISCPM_WEBHOOK_SECRET: while one is replaced, receivers may know either."""

    def __init__(self, secrets: str) -> None:
        self._keys = webhook_keys(secrets)

    def headers(self, message_id: str, time_s: int, body: bytes) -> dict[str, str]:
        """What is sent with a body. `time_s` is Unix time."""
        signed = b".".join((message_id.encode(), str(time_s).encode(), body))
        digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in self._keys]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(time_s),
            "webhook-signature": " ".join(f"v1,{b64encode(digest).decode()}" for digest in digests),
        }
