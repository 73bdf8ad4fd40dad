"""Examples of a source as files in LLaVA's JSON layout: to look at, to change, to fine-tune on."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from models.datasets.examples import Conversation, ConversationSource

CONVERSATIONS_FILE = "conversations.json"
IMAGES_FOLDER = "images"


def export_llava(source: ConversationSource, folder: Path, count: int) -> Path:
    """Write the first `count` conversations of epoch 0: pictures as PNG below `images`, and `conversations.json`.

    Kind and language of a round stand beside its question.

    Returns: the JSON file.
    Raises:
        ValueError: the source has fewer examples.
        FileExistsError: the folder holds such files already.
    """
    if not 0 < count <= len(source):
        raise ValueError(f"cannot export {count} conversations of a source that has {len(source)}")
    (folder / IMAGES_FOLDER).mkdir(parents=True)
    records = []
    for index in range(count):
        conversation = source.conversation(index, 0)
        image = f"{index:06d}.png" if conversation.pixels is not None else ""
        if conversation.pixels is not None:
            Image.fromarray(conversation.pixels).save(folder / IMAGES_FOLDER / image)
        records.append(_record(index, image, conversation))
    file = folder / CONVERSATIONS_FILE
    file.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
    return file


def _record(index: int, image: str, conversation: Conversation) -> dict[str, Any]:
    turns: list[dict[str, str]] = []
    for number, asked in enumerate(conversation.rounds):
        mark = "<image>\n" if image and number == 0 else ""
        turns.append(
            {"from": "human", "value": mark + asked.question, "kind": asked.kind, "language": asked.language},
        )
        turns.append({"from": "gpt", "value": asked.answer})
    return {"id": str(index), **({"image": image} if image else {}), "conversations": turns}
