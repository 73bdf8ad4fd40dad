"""What a training run begins with: sizes, a vocabulary, conversations in LLaVA's layout and their pictures."""

import json
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SPECIAL = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>"]
WORDS = ["image", "context", "question", "User", "AI", "What", "It is", " is", " red", " green", " blue", "图", "是"]
VOCABULARY = [*SPECIAL, *string.ascii_letters, *string.digits, *string.punctuation, *WORDS]
SIZES = {
    "llm": {"dim_model": 32, "dim_ff": 48, "num_layers": 2, "num_heads": 2, "dim_head": 16, "half": False},
    "vision": {
        "img_size": 32,
        "patch_size": 16,
        "embed_dim": 32,
        "heads": 2,
        "ffn_dim": 48,
        "layers": 2,
        "max_source_positions": 8,
        "layernorm_eps": 1e-5,
    },
    "query_num": 4,
}
COLOURS = {"red": (200, 30, 30), "green": (20, 160, 40), "blue": (30, 60, 200)}
NUM_CONVERSATIONS = 12
SIDE_PX = 40


@dataclass(frozen=True)
class Data:
    """Files of a training run."""

    sizes: Path
    vocabulary: Path
    conversations: Path
    images: Path

    def arguments(self, output: Path, *more: str) -> list[str]:
        """Of `viscpm finetune chat`, from random weights, every step logged."""
        return [
            *("chat", "--init", str(self.sizes), "--vocabulary", str(self.vocabulary)),
            *("--data", str(self.conversations), "--images", str(self.images), "--min-side-px", "32"),
            *("--lr", "1e-3", "--llm-lr", "1e-2", "--warmup-steps", "4", "--log-every", "1"),
            *("--output", str(output), *more),
        ]


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    """Questions and answers as the layout has them."""
    return [
        turn for asked, said in pairs for turn in ({"from": "human", "value": asked}, {"from": "gpt", "value": said})
    ]


def write_training_files(folder: Path) -> Data:
    found = Data(folder / "sizes.json", folder / "vocab.txt", folder / "conversations.json", folder / "images")
    found.sizes.write_text(json.dumps(SIZES))
    found.vocabulary.write_text("\n".join(VOCABULARY))
    found.images.mkdir()
    rng = np.random.default_rng(5)
    records: list[dict[str, Any]] = []
    for number in range(NUM_CONVERSATIONS):
        colour = list(COLOURS)[number % 3]
        noise = rng.integers(-20, 20, (SIDE_PX, SIDE_PX + number, 3))
        pixels = np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(found.images / f"{number}.png")
        rounds = [("<image>\nWhat colour is it?", f"It is {colour}."), ("Is it < 5?", "a<b"), ("图?", "图是")]
        records.append({"id": str(number), "image": f"{number}.png", "conversations": turns(*rounds[: 1 + number % 3])})
    found.conversations.write_text(json.dumps(records, ensure_ascii=False))
    return found
