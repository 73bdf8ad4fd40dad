"""What random weights begin as."""

import json

import pytest
import torch

from models.datasets.examples import Conversation
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.training.chat.start import chat_from_sizes, deepen, draw_alike
from models.training.chat.task import ChatSettings, ChatTask
from models.training.sources import Listed
from tests.models.training_files import SPECIAL, Data

SPELLINGS = [("red", "Red", "红"), ("blue", "Blue", "蓝"), ("green", "unknown", "绿")]


def test_spellings_of_one_meaning_begin_alike() -> None:
    entries = [*SPECIAL, *(word for meant in SPELLINGS for word in meant if word != "unknown"), "other"]
    tokenizer = Tokenizer.from_entries(entries)
    table = torch.zeros(len(entries), 4096)
    draw_alike(table, tokenizer, SPELLINGS, seed=1)
    rows = {entry: table[place] for place, entry in enumerate(entries)}

    def likeness(one: str, other: str) -> float:
        return float(torch.cosine_similarity(rows[one], rows[other], dim=0))

    assert all(abs(row.std() - 1) < 0.1 for entry, row in rows.items() if row.any())
    assert {entry for entry, row in rows.items() if not row.any()} == {*SPECIAL, "other"}
    assert likeness("red", "Red") > 0.7 and likeness("green", "绿") > 0.7
    assert 0.15 < likeness("红", "蓝") < 0.35, "the kind of spelling is common to all meanings"
    assert abs(likeness("red", "蓝")) < 0.1


def test_a_model_takes_spellings_from_the_start(data: Data) -> None:
    plain = chat_from_sizes(data.sizes, data.vocabulary, seed=3)[0]
    model, tokenizer, _ = chat_from_sizes(data.sizes, data.vocabulary, 3, [("a", "A"), ("What", " is")])
    changed = (plain.llm.embedding.weight != model.llm.embedding.weight).any(1).nonzero().flatten().tolist()
    expected = [tokenizer.encode(text, {})[0][0] for text in ("a", "A", "What", " is")]
    assert sorted(changed) == sorted(expected)
    others = [name for name, value in plain.state_dict().items() if not torch.equal(value, model.state_dict()[name])]
    assert others == ["llm.embedding.weight"]
    assert json.loads(data.sizes.read_text())["query_num"] == model.config.num_query_tokens


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
