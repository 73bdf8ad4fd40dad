import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.datasets.llava import read_conversations
from models.datasets.llava_export import export_llava
from models.emoji.names import EmojiName
from models.emoji.sources import EmojiConversations


def test_exported_conversations_read_back_as_they_were(tmp_path: Path, names: tuple[EmojiName, ...]) -> None:
    source = EmojiConversations(names, ("twemoji",), 48, 1, 10)
    file = export_llava(source, tmp_path / "emoji", 3)
    exported = list(read_conversations(file))
    assert len(exported) == 3
    for index, read in enumerate(exported):
        conversation = source.conversation(index, 0)
        assert read.rounds == conversation.rounds
        assert conversation.pixels is not None
        np.testing.assert_array_equal(np.asarray(Image.open(file.parent / "images" / read.image)), conversation.pixels)
    assert "<image>" in json.loads(file.read_text(encoding="utf-8"))[0]["conversations"][0]["value"]


def test_an_export_does_not_mix_with_an_older_one(tmp_path: Path, names: tuple[EmojiName, ...]) -> None:
    source = EmojiConversations(names, ("twemoji",), 48, 1, 10)
    export_llava(source, tmp_path, 1)
    with pytest.raises(FileExistsError):
        export_llava(source, tmp_path, 1)
    with pytest.raises(ValueError, match="cannot export 11 conversations of a source that has 10"):
        export_llava(source, tmp_path / "other", 11)
