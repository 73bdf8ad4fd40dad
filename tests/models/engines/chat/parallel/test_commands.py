"""What rank 0 tells the others: the same on both ends of the sockets."""

import dataclasses
import socket
import threading

import pytest
import torch
from torch import Tensor

from models.checkpoints.loading import LoadedChat
from models.engines.chat.parallel.commands import (
    BeginPrompts,
    Broken,
    Channel,
    Feed,
    Keep,
    Loaded,
    Message,
    Span,
    TakeRows,
    begin_prompts,
    packed_batch,
)
from models.engines.chat.prefill import PromptRows
from models.engines.chat.prompt import build_prompt, pack_prompts
from tests.models.engines.chat.jobs import job


def test_commands_arrive_in_their_order_and_then_nothing() -> None:
    ours, theirs = map(Channel, socket.socketpair())
    commands: list[Message] = [
        Loaded(),
        TakeRows([5, 3]),
        Feed(spans=[Span(5, 7, [1, 2]), Span(0, 1, [])], tokens=[[1, 2], [3, 4]]),
        Keep(),
        Broken("out of memory " * 10_000),  # more than a socket holds at once
    ]
    sender = threading.Thread(target=lambda: [ours.send(command) for command in commands])
    sender.start()
    assert [theirs.receive() for _ in commands] == commands
    sender.join()
    ours.close()
    assert theirs.receive() is None and ours.receive() is None
    with pytest.raises(OSError):
        theirs.send(Keep())
    theirs.close()
    ours.close()


@pytest.mark.parametrize("question", ["a b", "日 x 本"], ids=["no extensions", "extensions"])
def test_a_prompt_is_read_as_it_was_packed(loaded: LoadedChat, question: str) -> None:
    batch = pack_prompts([build_prompt(job(question=question), loaded.tokenizer, 4)], loaded.tokenizer)
    rows = PromptRows(batch, 2, torch.zeros(4, 32), [7, 8, 3])
    commands = begin_prompts([rows, dataclasses.replace(rows, embeddings=None)])
    assert isinstance(commands, BeginPrompts)
    assert [command.num_image_tokens for command in commands.prompts] == [4, 0]
    command = commands.prompts[0]
    assert (command.segment, command.slots) == (2, [7, 8, 3])
    read = packed_batch(command, torch.device("cpu"))
    for field in dataclasses.fields(batch):
        sent, received = getattr(batch, field.name), getattr(read, field.name)
        if isinstance(sent, Tensor):
            assert torch.equal(sent, received) and sent.dtype == received.dtype, field.name
    assert read.image_bounds == batch.image_bounds and read.padding == batch.padding
    assert read.decode_tables == [], "what is said stays in rank 0"
