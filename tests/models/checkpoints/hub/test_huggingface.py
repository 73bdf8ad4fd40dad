"""Lists and files of the hub's protocol."""

import hashlib
from typing import Any

import pytest

from models.checkpoints.hub.huggingface import HuggingFace
from tests.models.checkpoints.hub.conftest import VOCABULARY, WEIGHTS

CHAT = "openbmb/VisCPM-Chat"


def test_large_files_are_known_by_sha256_and_small_ones_by_gits(hub: Any) -> None:
    source = HuggingFace(hub.url)
    large = source.find(CHAT, "pytorch_model.v1.bin", None)
    assert (large.size_bytes, large.digest) == (len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    assert large.url.startswith(hub.storage_url) and "authorization" not in large.headers, "another host: no token"
    small = source.find(CHAT, "vocab.txt", None)
    assert small.digest == hashlib.sha1(b"blob 11\0" + VOCABULARY).hexdigest()
    assert small.headers["authorization"] == "Bearer hf_secret"


def test_a_mirror_gets_no_token(hub: Any) -> None:
    mirror = HuggingFace(hub.storage_url)  # not by HF_ENDPOINT's name
    assert "authorization" not in mirror.find(CHAT, "vocab.txt", None).headers
    assert mirror.names(CHAT, None)
    assert not hub.credentials


def test_a_list_of_several_pages(hub: Any) -> None:
    hub.files = {f"{CHAT}/{number}.bin": b"1" for number in range(5)} | {f"{CHAT}/vae/config.json": b"{}"}
    hub.page_size = 2
    assert HuggingFace(hub.url).names(CHAT, None) == [*(f"{number}.bin" for number in range(5)), "vae/config.json"]
    assert len(hub.requests) == 4


def test_a_list_that_leads_elsewhere_is_refused(hub: Any) -> None:
    hub.files[f"{CHAT}/../../.bashrc"] = b""
    with pytest.raises(ValueError, match="is no name of a file"):
        HuggingFace(hub.url).names(CHAT, None)
