"""A tiny Chat model, and conversations about small pictures."""

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState

from models.datasets.examples import Conversation
from models.datasets.llava import LlavaConversations
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.training.chat.start import chat_from_sizes
from tests.models.training_files import VOCABULARY, Data, write_training_files


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return write_training_files(tmp_path_factory.mktemp("training"))


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Its state outlives an Accelerator, and runs of one process may differ in precision."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_entries(VOCABULARY)


@pytest.fixture
def model(data: Data) -> ChatModel:
    """Random weights of the tiny sizes, float32."""
    return chat_from_sizes(data.sizes, data.vocabulary, seed=3)[0]


@pytest.fixture(scope="session")
def conversations(data: Data) -> list[Conversation]:
    """All of the file, pictures unchanged."""
    source = LlavaConversations.read(data.conversations, data.images, 32, seed=0, is_augmented=False, min_side_px=32)
    return [source.conversation(index, 0) for index in range(len(source))]
