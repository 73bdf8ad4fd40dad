"""What random weights begin as."""

import json
from pathlib import Path

import pytest
import torch

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.conversion import convert
from models.checkpoints.tensor_files import CheckpointError
from models.datasets.examples import Conversation
from models.training.chat.start import chat_from_checkpoint, chat_from_sizes, deepen
from models.training.chat.task import ChatSettings, ChatTask
from models.training.sources import Listed
from tests.models.training_files import Data


@pytest.mark.slow
def test_a_model_takes_spellings_from_the_start(data: Data) -> None:
    plain = chat_from_sizes(data.sizes, data.vocabulary, seed=3)[0]
    model, tokenizer, _ = chat_from_sizes(data.sizes, data.vocabulary, 3, [("a", "A"), ("What", " is")])
    changed = (plain.llm.embedding.weight != model.llm.embedding.weight).any(1).nonzero().flatten().tolist()
    expected = [tokenizer.encode(text, {})[0][0] for text in ("a", "A", "What", " is")]
    assert sorted(changed) == sorted(expected)
    others = [name for name, value in plain.state_dict().items() if not torch.equal(value, model.state_dict()[name])]
    assert others == ["llm.embedding.weight"]
    assert json.loads(data.sizes.read_text())["query_num"] == model.config.num_query_tokens


@pytest.mark.slow
def test_layers_that_are_added_change_nothing_and_learn(data: Data, conversations: list[Conversation]) -> None:
    model, tokenizer, _ = chat_from_sizes(data.sizes, data.vocabulary, seed=3)
    losses = []
    for begun in (model, deepen(model, 2)):
        task = ChatTask(begun, tokenizer, data.vocabulary, Listed(conversations), ChatSettings())
        loss, _ = task.loss(task.collate_conversations(conversations))
        losses.append(loss)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    assert begun.config.llm.num_layers == model.config.llm.num_layers + 2 == len(begun.llm.layers)
    losses[1].backward()
    for layer in begun.llm.layers[:2]:
        assert layer.attention.output.weight.grad.any() and layer.feed_forward.down.weight.grad.any()


@pytest.mark.slow
def test_a_quantized_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    convert(bundled_checkpoint("chat"), tmp_path / "quantized", quantization="int8")
    with pytest.raises(CheckpointError, match=r"quantized to int8, which cannot be trained; .*") as refused:
        chat_from_checkpoint(tmp_path / "quantized", None)
    assert "\n" not in str(refused.value)
