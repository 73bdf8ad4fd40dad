"""A tiny Chat checkpoint of four heads, and groups of ranks: threads for their layers, processes for the whole."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
import torch
import torch.distributed as dist

from models.checkpoints.conversion import write_folder
from models.checkpoints.loading import LoadedChat
from models.checkpoints.published_names import published_name
from models.checkpoints.random_weights import random_chat
from models.engines.chat.parallel.group import Group
from models.jobs import EngineConfig
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.sharding import Shard
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.vision.config import VisionConfig
from tests.models.conftest import CHAT_VOCABULARY

T = TypeVar("T")


@pytest.fixture(scope="session")
def loaded() -> LoadedChat:
    """Answers end by chance and hold `<` and unknown words, whose rows are enlarged."""
    config = ChatConfig(
        llm=CPMBeeConfig(
            len(CHAT_VOCABULARY), dim_model=32, dim_ff=64, num_layers=2, num_heads=4, dim_head=16, half=False
        ),
        vision=VisionConfig(
            32, patch_size_px=16, width=32, num_heads=2, dim_ff=48, num_layers=1, num_query_positions=8
        ),
        num_query_tokens=4,
    )
    model = random_chat(config, "cpu", torch.float32, seed=7)
    for name, scale in (("</s>", 1.7), ("<", 1.8), ("<unk>", 2.5)):
        model.llm.embedding.weight.data[CHAT_VOCABULARY.index(name)] *= scale
    return LoadedChat(model, Tokenizer.from_entries(CHAT_VOCABULARY), config, fingerprint="f1", untrained=True)


@pytest.fixture(scope="session")
def folder(loaded: LoadedChat, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a converted folder."""
    target = tmp_path_factory.mktemp("checkpoints") / "four-heads"
    target.mkdir()
    tensors = {published_name("chat", name): tensor for name, tensor in loaded.model.state_dict().items()}
    (target / "vocab.txt").write_text("\n".join(CHAT_VOCABULARY), encoding="utf-8")
    write_folder(target, "chat", loaded.config, tensors.items(), untrained=True)
    return target


@pytest.fixture
def config(folder: Path) -> EngineConfig:
    """Of an engine over two ranks on this processor."""
    return EngineConfig(kind="chat", checkpoint=str(folder), max_jobs=64, devices=("cpu", "cpu"), kv_bytes=2**22)


InRanks = Callable[[int, Callable[[Group], T]], list[T]]


@pytest.fixture
def in_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InRanks[object]]:
    """Runs a function in so many ranks, each a thread -> what it gave in each."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")

    def run(size: int, work: Callable[[Group], T]) -> list[T]:
        results: dict[int, T] = {}
        errors: list[BaseException] = []

        def rank(number: int) -> None:
            try:
                store = dist.FileStore(str(tmp_path / f"store{size}"), size)
                members = dist.ProcessGroupGloo(store, number, size, timedelta(seconds=20))
                with torch.inference_mode():
                    results[number] = work(Group(Shard(number, size), members))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=rank, args=(number,)) for number in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        if errors:
            raise errors[0]
        return [results[number] for number in range(size)]

    yield run
