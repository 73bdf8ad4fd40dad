"""What is trained, adapters, recomputation, export."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.checkpoints.loading import load_chat
from models.datasets.examples import Conversation, Round
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.training.chat.start import chat_from_sizes
from models.training.chat.task import ChatSettings, ChatTask
from models.training.lora import LoraSettings, is_adapter
from models.training.sources import Listed
from models.training.task import Position
from tests.models.training_files import Data

LORA = LoraSettings(rank=2, alpha=6, parts="both")


def task_of(data: Data, model: ChatModel, conversations: list[Conversation], settings: ChatSettings) -> ChatTask:
    tokenizer = Tokenizer(data.vocabulary)
    return ChatTask(model, tokenizer, data.vocabulary, Listed(conversations), settings, Listed(conversations))


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def gradients(task: ChatTask, conversations: list[Conversation]) -> tuple[float, dict[str, Tensor]]:
    """The mean loss, and the gradient of everything that is trained; every one of them is there."""
    task.model.train().zero_grad()
    loss, weight = task.loss(task.collate_conversations(conversations))
    (loss / weight).backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad for name, p in task.model.named_parameters() if p.requires_grad and p.grad is not None}
    assert found.keys() == trained(task.model)
    return (loss / weight).item(), found


def test_the_flags_choose_what_the_release_trains(
    data: Data, model: ChatModel, conversations: list[Conversation]
) -> None:
    everything = {name for name, _ in model.named_parameters()}
    task_of(data, model, conversations, ChatSettings())
    left_out = everything - trained(model)
    patches = {name for name in everything if "patch_embedding" in name or name.endswith("class_token")}
    assert patches and patches < left_out
    # Nothing else but what the loss does not reach: the end of the last image expert.
    last = "vision_encoder.layers.1.image_expert."
    assert all(name.startswith((last, "vision_encoder.image_norm.")) for name in left_out - patches)
    assert last + "attention.key.weight" in trained(model)

    task_of(data, model, conversations, ChatSettings(tune_llm=False, tune_vision=False))
    parts = ("query_tokens", "projector.", "vision_encoder.query_")
    assert all(name.startswith(parts) or ".query_expert." in name for name in trained(model))
    assert any(".query_expert." in name for name in trained(model))


def test_every_trained_parameter_gets_a_gradient_whatever_the_batch(
    data: Data, model: ChatModel, conversations: list[Conversation]
) -> None:
    task = task_of(data, model, conversations, ChatSettings(tune_patches=True))
    gradients(task, conversations)
    gradients(task, [Conversation(None, (Round("a", "b"),))])


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LORA])
def test_recomputing_activations_changes_neither_loss_nor_gradients(
    data: Data, conversations: list[Conversation], lora: LoraSettings | None
) -> None:
    found = []
    for is_recomputed in (False, True):
        model, *_ = chat_from_sizes(data.sizes, data.vocabulary, seed=3)
        torch.manual_seed(0)
        task = task_of(data, model, conversations, ChatSettings(lora=lora, is_recomputed=is_recomputed))
        found.append(gradients(task, conversations))
    (loss, plain), (recomputed_loss, recomputed) = found
    assert recomputed_loss == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(recomputed, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_adapters_alone_are_trained_and_merge_into_the_weights(
    data: Data, model: ChatModel, conversations: list[Conversation], tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings = ChatSettings(lora=LORA, export_dtype=torch.float32)
    task = task_of(data, model, conversations, settings)
    assert trained(model) and all(is_adapter(name) for name in trained(model))
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            nn.init.normal_(parameter, std=0.5)
    task.export(tmp_path, model.state_dict())
    loaded = load_chat(tmp_path)
    changed = {name for name, tensor in loaded.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert len(changed) == 2 * 7 + 2 * 12  # layers times linears, of the language model and of both experts
    batch = task.collate_conversations(conversations)
    plain = task_of(data, loaded.model, conversations, replace(settings, lora=None))
    with torch.no_grad():
        assert plain.loss(batch)[0].item() == pytest.approx(task.loss(batch)[0].item(), rel=1e-5)


@pytest.mark.slow
def test_the_table_of_tokens_can_learn_beside_adapters(
    data: Data, model: ChatModel, conversations: list[Conversation], tmp_path: Path
) -> None:
    table = "llm.embedding.weight"
    settings = ChatSettings(lora=replace(LORA, tunes_embedding=True), export_dtype=torch.float32)
    task = task_of(data, model, conversations, settings)
    assert {name for name in trained(model) if not is_adapter(name)} == {table}
    assert task.parameter_groups()[-1]["params"] == [model.llm.embedding.weight]
    gradients(task, conversations)
    with torch.no_grad():
        model.llm.embedding.weight.add_(1)
    task.export(tmp_path, model.state_dict())
    torch.testing.assert_close(load_chat(tmp_path).model.llm.embedding.weight, model.llm.embedding.weight)


@pytest.mark.slow
def test_an_export_loads_as_a_folder_and_as_published_files(
    data: Data, model: ChatModel, conversations: list[Conversation], tmp_path: Path
) -> None:
    settings = ChatSettings(export_dtype=torch.float16, writes_published=True)
    task_of(data, model, conversations, settings).export(tmp_path, model.state_dict())
    folder, published = load_chat(tmp_path), load_chat(tmp_path / "published" / "pytorch_model.pt")
    assert folder.config == published.config == model.config and not folder.untrained
    assert folder.fingerprint == published.fingerprint
    for name, tensor in model.state_dict().items():
        assert torch.equal(folder.model.state_dict()[name], tensor.half())
        assert torch.equal(published.model.state_dict()[name], tensor.half())
    assert '"query_num"' not in (tmp_path / "published" / "cpm-bee.json").read_text()


@pytest.mark.slow
def test_validation_tells_the_loss_and_the_exact_answers_by_kind_and_language(
    data: Data, model: ChatModel, conversations: list[Conversation]
) -> None:
    asked = [
        replace(
            conversation, rounds=tuple(replace(turn, kind="colour", language="en") for turn in conversation.rounds[:1])
        )
        for conversation in conversations[:2]
    ]
    task = task_of(data, model, asked, ChatSettings(validation_batch_size=1))
    loss, weight = task.loss(task.collate_conversations(asked))
    model.eval()
    with torch.no_grad():
        measures = task.validate()
    assert measures["loss"] == pytest.approx((loss / weight).item(), rel=1e-5)
    assert measures["exact_colour_en"] == measures["exact"] == 0
    assert task_of(data, model, conversations, ChatSettings()).validate().keys() == {"loss"}


def test_what_is_left_out_is_counted(data: Data, model: ChatModel, conversations: list[Conversation]) -> None:
    task = task_of(data, model, [conversations[0], Conversation(None, ())], ChatSettings(max_len=10))
    task.loss(task.collate([Position(index, 0, 0, index) for index in range(2)]))
    assert task.counts() == {"skipped_rounds": 1, "skipped_conversations": 1}


def test_language_model_and_its_embedding_have_rates_of_their_own(
    data: Data, model: ChatModel, conversations: list[Conversation]
) -> None:
    settings = ChatSettings(lr=1e-4, llm_lr=1e-3, embedding_lr=1e-2)
    groups = {group["name"]: group for group in task_of(data, model, conversations, settings).parameter_groups()}
    assert {name: group["lr"] for name, group in groups.items()} == {"vision": 1e-4, "llm": 1e-3, "embedding": 1e-2}
    assert [id(one) for one in groups["embedding"]["params"]] == [id(model.llm.embedding.weight)]
    sizes = [len(group["params"]) for group in groups.values()]
    assert sum(sizes) == len(trained(model)), "each parameter once"
    task = task_of(data, model, conversations, ChatSettings(lora=LORA, lr=1e-4))
    assert {group["name"] for group in task.parameter_groups()} == {"vision", "llm"}


def test_a_tower_can_rest_while_the_language_model_learns_to_read_it(
    data: Data, model: ChatModel, conversations: list[Conversation]
) -> None:
    settings = ChatSettings(tune_vision=False, tune_queries=False)
    task = task_of(data, model, conversations, settings)
    assert trained(model) == {name for name, _ in model.named_parameters() if name.startswith(("llm.", "projector."))}
    _, found = gradients(task, conversations)
    assert set(found) == trained(model)
