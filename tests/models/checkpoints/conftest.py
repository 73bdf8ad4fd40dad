"""Small checkpoints in the published layout, and a hub on this machine."""

from collections.abc import Iterator

import pytest

from tests.models.checkpoints.hub.huggingface_stand_in import Hub
from tests.models.published_files import (  # noqa: F401 (fixtures)
    chat_config,
    chat_file,
    chat_tensors,
    paint_config,
    paint_file,
    paint_tensors,
    save,
)


@pytest.fixture(scope="session")
def new_hub() -> type[Hub]:
    return Hub


@pytest.fixture
def hub_with_chat(new_hub: type[Hub]) -> Iterator[str]:
    """The URL of a hub that holds chat-v1.1, with 200,000 bytes for a checkpoint."""
    files = {"pytorch_model.v1.bin": bytes(200_000), "vocab.txt": b"<pad>"}
    with new_hub({f"openbmb/VisCPM-Chat/{name}": content for name, content in files.items()}) as hub:
        yield hub.url
