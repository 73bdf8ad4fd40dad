"""Conversations as rows: every round, its history, its targets, its picture; and the loss over them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.datasets.examples import Conversation, PixelArray, Round
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.packing import IGNORED_TARGET, PromptTooLong, pack_training
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.vision.preprocess import normalise
from models.training.chat.batch import ChatBatch, collate_conversations, round_trees
from models.training.chat.task import answer_logits

MAX_LEN = 200


def collated(conversations: list[Conversation], tokenizer: Tokenizer, max_len: int = MAX_LEN) -> ChatBatch:
    return collate_conversations(conversations, tokenizer, 4, 32, max_len)


def loss(model: ChatModel, batch: ChatBatch) -> torch.Tensor:
    logits, targets = answer_logits(model, batch)
    return F.cross_entropy(logits, targets)


def test_every_round_is_learnt_with_the_rounds_before_it_as_history() -> None:
    conversation = Conversation(None, (Round("a<b?", "c < d"), Round("and?", "yes"), Round("so?", "no")))
    first, second, third = round_trees(conversation, 4)
    assert first == {"context": "", "question": "a<<b?", "<ans>": "c << d"}
    assert second == {"context": "User: a<<b?\nAI: c << d\n", "question": "and?", "<ans>": "yes"}
    assert third["context"] == "User: a<<b?\nAI: c << d\nUser: and?\nAI: yes\n"


def test_a_picture_gives_its_rows_placeholders_and_is_encoded_once(
    conversations: list[Conversation], tokenizer: Tokenizer
) -> None:
    batch = collated(conversations[:3], tokenizer)
    assert batch.pixels.shape == (3, 32, 32, 3) and batch.pixels.dtype == torch.uint8
    (group,) = batch.groups
    assert group.pictures.tolist() == [0, 1, 1, 2, 2, 2]
    ids = group.rows.ids.flatten()[group.places]
    assert ids.tolist() == [tokenizer.unk_id] * (6 * 4)
    assert [tree.get("image") for tree in round_trees(conversations[2], 2)] == ["<unk><unk>"] * 3


@pytest.mark.slow
def test_rows_cut_into_groups_have_the_loss_and_gradients_of_one_batch(
    conversations: list[Conversation], tokenizer: Tokenizer, model: ChatModel
) -> None:
    # Words that the vocabulary lacks: their columns are those of the whole batch, whatever the group.
    odd = Conversation(conversations[0].pixels, (Round("猫?", "狗 and 鸟 and 鸟"),))
    many = [*conversations, *conversations, odd]
    cut = collated(many, tokenizer)
    assert len(cut.groups) == 3
    assert len({group.rows.ids.shape[1] for group in cut.groups}) == 3
    assert all(len(group.rows.extension_ids) == 2 for group in cut.groups)

    trees = [tree for conversation in many for tree in round_trees(conversation, 4)]
    rows, targets = pack_training(trees, tokenizer, MAX_LEN)
    pictures = [index for index, conversation in enumerate(many) for _ in conversation.rounds]
    embeddings = model.image_embeddings(normalise(cut.pixels))
    hidden = model.llm(rows, model.embed_prompt(rows, [embeddings[picture] for picture in pictures]))
    whole = model.llm.loss(hidden, targets, model.llm.extension_rows(rows.extension_ids, rows.extension_subs))
    assert loss(model, cut).item() == pytest.approx(whole.item(), rel=1e-5)

    model.requires_grad_(True)
    model.llm.embedding.weight.grad = None
    loss(model, cut).backward()  # type: ignore[no-untyped-call]
    assert model.query_tokens.grad is not None and model.query_tokens.grad.abs().max() > 0


def test_rounds_that_are_too_long_are_left_out_and_counted(
    conversations: list[Conversation], tokenizer: Tokenizer, model: ChatModel
) -> None:
    with pytest.raises(PromptTooLong):
        pack_training(list(round_trees(conversations[2], 4)), tokenizer, 60)
    batch = collated(conversations[:3], tokenizer, 60)
    assert batch.num_skipped_rounds == 3
    assert max(len(row) for row in batch.groups[0].rows.ids) <= 60

    nothing = collated(conversations[:1], tokenizer, 5)
    assert nothing.num_skipped_rounds == 1
    assert (nothing.groups[0].targets == IGNORED_TARGET).all()
    model.requires_grad_(True)
    logits, targets = answer_logits(model, nothing)
    F.cross_entropy(logits, targets, reduction="sum").backward()  # type: ignore[no-untyped-call]
    assert model.query_tokens.grad is not None and not model.query_tokens.grad.any()


def test_a_conversation_without_a_picture_has_no_placeholders(
    conversations: list[Conversation], tokenizer: Tokenizer
) -> None:
    batch = collated([replace(conversations[0], pixels=None), Conversation(None, ())], tokenizer)
    assert not len(batch.groups[0].places) and not batch.pixels.any()
    assert batch.num_skipped_conversations == 1


def test_a_batch_sees_each_picture_in_its_own_rows(
    conversations: list[Conversation], tokenizer: Tokenizer, model: ChatModel
) -> None:
    def first_logits(pixels: PixelArray) -> torch.Tensor:
        batch = collated([conversations[2], replace(conversations[1], pixels=pixels)], tokenizer)
        return answer_logits(model, batch)[0]

    with torch.no_grad():
        pixels = conversations[1].pixels
        assert pixels is not None
        given, black = first_logits(pixels), first_logits(np.zeros_like(pixels))
    differs = (given - black).abs().amax(dim=1) > 1e-4
    own = collated([conversations[2]], tokenizer)
    num_own = int((own.groups[0].targets != IGNORED_TARGET).sum())
    assert not differs[:num_own].any() and differs[num_own:].all()
