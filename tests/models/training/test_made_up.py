"""The walk-through of adapters in short: made-up things are drawn, learnt by name, and what was known stays known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoints.loading import load_chat
from models.datasets.examples import Conversation
from models.datasets.llava import LlavaConversations
from models.training.chat.validation import exact_matches
from models.training.cli import main
from models.training.made_up import NUM_THINGS, PARTS, draw, things, write
from tests.models.training_files import COLOURS, Data, turns

NUM_TAUGHT = 2
NUM_OLD = 6


def read_from(file: Path, images: Path) -> list[Conversation]:
    source = LlavaConversations.read(file, images, 32, seed=0, is_augmented=False, min_side_px=32)
    return [source.conversation(index, 0) for index in range(len(source))]


def share(checkpoint: Path, conversations: list[Conversation]) -> float:
    loaded = load_chat(checkpoint, dtype=torch.float32)
    return exact_matches(loaded.model, loaded.tokenizer, conversations)["exact"]


@pytest.mark.slow
def test_things_have_names_of_their_own_and_look_alike_in_all_their_pictures(tmp_path: Path) -> None:
    made = things(NUM_THINGS, seed=1)
    assert len({thing.name for thing in made}) == len({thing.corners for thing in made}) == NUM_THINGS
    assert made == things(NUM_THINGS, seed=1) and made[0] not in things(NUM_THINGS, seed=2)
    first, second = (np.asarray(draw(made[0], np.random.default_rng(seed), 64)) for seed in (0, 1))
    assert first.shape == (64, 64, 3) and not np.array_equal(first, second)
    middles = [tuple(picture[28:36, 28:36].reshape(-1, 3).mean(0).round()) for picture in (first, second)]
    assert middles[0] == pytest.approx(middles[1], abs=30)

    write(tmp_path, count=3)
    for part in PARTS:
        conversations = read_from(tmp_path / f"{part}.json", tmp_path / "images")
        assert {turn.kind for conversation in conversations for turn in conversation.rounds} == {"made_up"}
        assert {turn.language for conversation in conversations for turn in conversation.rounds} == {"en", "zh"}


@pytest.mark.whole_run
def test_adapters_teach_new_names_and_keep_the_old_answers(data: Data, tmp_path: Path) -> None:
    old = [record for record in json.loads(data.conversations.read_text()) if record["image"]][:NUM_OLD]
    for number, record in enumerate(old):
        asked = turns(("<image>\nWhat is it?", f"It is {list(COLOURS)[number % 3]}."))
        record["conversations"] = [asked[0] | {"kind": "old", "language": "en"}, asked[1]]
    first = tmp_path / "first.json"
    first.write_text(json.dumps(old))
    batch = ("--batch-size", "6", "--no-augment", "--export-dtype", "float32")
    begun = data.arguments(tmp_path / "first", *batch, "--steps", "100", "--data", str(first))
    assert main(begun) == 0
    known = read_from(first, data.images)
    assert share(tmp_path / "first" / "export", known) == 1

    new = []
    for thing in things(NUM_TAUGHT, seed=2024):
        draw(thing, np.random.default_rng(3), 64).save(data.images / f"{thing.name}.png")
        asked = turns(("<image>\nWhat is it?", f"It is {thing.name}."))
        conversation = [asked[0] | {"kind": "new", "language": "en"}, asked[1]]
        new.append({"id": thing.name, "image": f"{thing.name}.png", "conversations": conversation})
    both = tmp_path / "both.json"
    both.write_text(json.dumps([*old, *new * 3]))
    arguments = ["chat", "--checkpoint", str(tmp_path / "first" / "export"), "--output", str(tmp_path / "second")]
    arguments += ["--data", str(both), "--images", str(data.images), "--min-side-px", "32", *batch]
    arguments += ["--lora-rank", "8", "--lora-parts", "both", "--lr", "1e-2", "--warmup-steps", "4", "--steps", "120"]
    assert main(arguments) == 0
    assert share(tmp_path / "second" / "export", read_from(both, data.images)) == 1
