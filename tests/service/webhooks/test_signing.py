"""Signatures: as whoever is called back computes them, from what it got alone."""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from service.core.settings import SettingsError, read_settings
from service.webhooks.signing import Signer
from tests.service.tree import ROOT
from tests.service.webhooks.receiver import SECRET

Verifier = Callable[[str, Mapping[str, str], bytes], bool]
OTHER = "whsec_" + "QUJD" * 8


def documented_verifier() -> Verifier:
    """`is_ours` of docs/guides/jobs.md, as receivers copy it."""
    text = Path(ROOT / "docs/guides/jobs.md").read_text("utf-8")
    [example] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def is_ours" in block]
    names: dict[str, Verifier] = {}
    exec(example, names)
    return names["is_ours"]


def test_the_documented_receiver_knows_ours_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    is_ours, body = documented_verifier(), b'{"id": "chat-1"}'
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
    headers = Signer(SECRET).headers("chat-1", 1_700_000_000, body)
    assert headers["webhook-id"] == "chat-1" and headers["webhook-timestamp"] == "1700000000"
    assert is_ours(SECRET, headers, body)
    assert not is_ours(OTHER, headers, body) and not is_ours(SECRET, headers, body + b" ")
    assert not is_ours(SECRET, headers | {"webhook-id": "chat-2"}, body)
    assert not is_ours(SECRET, headers | {"webhook-timestamp": "1700000001"}, body)
    stale = Signer(SECRET).headers("chat-1", 1_699_999_000, body)
    assert not is_ours(SECRET, stale, body), "somebody kept it"


def test_the_signature_is_the_one_of_standard_webhooks() -> None:
    """Computed with `openssl dgst -sha256 -mac HMAC -macopt key:012345678901234567890123 -binary | base64`."""
    told = Signer(SECRET).headers("msg_1", 1614265330, b'{"test": 2432232314}')
    assert told["webhook-signature"] == "v1,f/J7O8ICcd/iY2ceHKTL6w2MiwBP/6VgJPOCWkWfnRk="


def test_while_a_secret_is_replaced_receivers_may_know_either() -> None:
    is_ours = documented_verifier()
    headers = Signer(f"{OTHER}, {SECRET}").headers("a", int(time.time()), b"x")
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert is_ours(SECRET, headers, b"x") and is_ours(OTHER, headers, b"x")


@pytest.mark.parametrize(
    "secret", ["sesame", "whsec_", "whsec_c2hvcnQ=", "whsec_!!", SECRET + ",x", "whsec_" + "A" * 100]
)
def test_what_is_no_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(SettingsError, match="VISCPM_WEBHOOK_SECRET no secret of webhooks; allowed: whsec_") as caught:
        read_settings(webhook_secret=secret)
    assert secret == "whsec_" or secret not in str(caught.value)
