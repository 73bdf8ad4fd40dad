"""Hubs on this machine, in the places of the public ones."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from huggingface_hub import constants

from tests.models.checkpoints.hub.modelscope_stand_in import modelscope

NewHub = Callable[..., Any]
WEIGHTS = random.Random(0).randbytes(300_000)
VOCABULARY = b"<pad>\n<unk>"


@pytest.fixture
def quick_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written at once are 10 kB instead of 10 MB; no progress bars."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.delenv("VISCPM_HUB", raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, new_hub: NewHub, quick_transfers: None) -> Iterator[Any]:
    """Stands at the place of HF_ENDPOINT."""
    chat = "openbmb/VisCPM-Chat"
    with new_hub({f"{chat}/pytorch_model.v1.bin": WEIGHTS, f"{chat}/vocab.txt": VOCABULARY}) as running:
        # What HF_ENDPOINT sets when the library is imported; test_cli.py sets the variable itself.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield running


@pytest.fixture
def modelscope_hub(monkeypatch: pytest.MonkeyPatch, quick_transfers: None) -> Iterator[Any]:
    """Stands at the place of ModelScope."""
    chat = "OpenBMB/VisCPM-Chat"
    with modelscope({f"{chat}/pytorch_model.v1.bin": WEIGHTS, f"{chat}/vocab.txt": VOCABULARY}) as running:
        monkeypatch.setenv("MODELSCOPE_DOMAIN", running.url)
        yield running
