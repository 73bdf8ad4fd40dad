"""A tower that learns to see: its loss, its validation, its export, and a chat run that begins with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoints.loading import load_chat
from models.checkpoints.tensor_files import CheckpointError
from models.datasets.examples import UNLABELLED, LabelledPicture
from models.emoji.drawings import NOTO_FONT_VARIABLE, installed_styles
from models.emoji.names import bundled_names
from models.emoji.sources import TRAINING_SEED, EmojiConversations
from models.networks.chat.model import ChatModel
from models.training.chat.start import chat_from_sizes, take_tower
from models.training.chat.tower import TowerTask
from models.training.cli import main
from models.training.loop import RunSettings, train
from models.training.schedule import Schedule
from models.training.sources import NUM_EMOJI_EXAMPLES, DataSettings, conversation_sources
from models.training.task import Position
from tests.models.training_files import Data


@dataclass(frozen=True)
class Halves:
    """Pictures whose left and right half is red or blue; of the right one only red can be told."""

    seed: int = 0
    classes: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {"left": ["red", "blue"], "right": ["red", "blue", "never"]}
    )

    def __len__(self) -> int:
        return 32

    def labelled_picture(self, index: int, epoch: int) -> LabelledPicture:
        rng = np.random.default_rng((self.seed, epoch, index))
        left, right = rng.integers(2, size=2)
        pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        pixels[:, :16, 2 * left] += 150
        pixels[:, 16:, 2 * right] += 150
        return LabelledPicture(pixels, (int(left), 0 if right == 0 else UNLABELLED))


def test_what_is_unseen_counts_for_nothing(data: Data, model: ChatModel) -> None:
    task = TowerTask(model, data.vocabulary, Halves(), lr=1e-3)
    batch = task.collate([Position(index, 0, 0, index) for index in range(6)])
    assert batch.pixels.shape == (6, 32, 32, 3) and batch.labels.shape == (6, 2)
    loss, weight = task.loss(batch)
    logits = [head.detach().log_softmax(1) for head in task.model(batch.pixels)]
    expected = [
        -float(head[row, label]) for row in range(6) for head, label in zip(logits, batch.labels[row], strict=True)
        if label != UNLABELLED
    ]  # fmt: skip
    assert weight == 6 and len(expected) < 12
    assert loss.item() == pytest.approx(sum(expected), rel=1e-5)


def test_every_trained_parameter_gets_a_gradient_and_the_rest_is_frozen(data: Data, model: ChatModel) -> None:
    task = TowerTask(model, data.vocabulary, Halves(), lr=1e-3)
    loss, _ = task.loss(task.collate([Position(index, 0, 0, index) for index in range(6)]))
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in task.model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    trained = {name for name, parameter in task.model.named_parameters() if parameter.requires_grad}
    assert {"chat.query_tokens", "chat.vision_encoder.patch_embedding.weight", "heads.0.weight"} <= trained
    assert not any(name.startswith(("chat.llm.", "chat.projector.")) for name in trained)


@pytest.mark.whole_run
def test_a_tower_learns_to_see_and_a_chat_model_takes_it(data: Data, model: ChatModel, tmp_path: Path) -> None:
    torch.manual_seed(1)  # the heads are drawn from it
    task = TowerTask(model, data.vocabulary, Halves(), lr=3e-3, validation=Halves(seed=1), validation_batch_size=12)
    before = task.validate()
    language = {name: value.clone() for name, value in model.llm.state_dict().items()}
    schedule = Schedule(200, warmup_steps=4, decay_steps=80)
    train(task, RunSettings(tmp_path, schedule, batch_size=16, muon_lr=0.01, save_every=1000))
    after = task.validate()
    assert before.keys() == after.keys() == {"left", "right"}
    assert after["left"] > 0.95 > before["left"] and after["right"] > 0.95

    exported = load_chat(tmp_path / "export", data.vocabulary, dtype=torch.float32).model
    assert all(torch.equal(value, language[name]) for name, value in exported.llm.state_dict().items())
    other = chat_from_sizes(data.sizes, data.vocabulary, seed=8)[0]
    take_tower(other, tmp_path / "export", None)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        got = other.vision_encoder(pixels, other.query_tokens)
        torch.testing.assert_close(got, exported.vision_encoder(pixels, exported.query_tokens))
    assert not torch.equal(other.llm.embedding.weight, exported.llm.embedding.weight)

    smaller = tmp_path / "smaller.json"
    smaller.write_text(data.sizes.read_text().replace('"query_num": 4', '"query_num": 3'))
    with pytest.raises(CheckpointError, match="its tower"):
        take_tower(chat_from_sizes(smaller, data.vocabulary, seed=8)[0], tmp_path / "export", None)


@pytest.mark.slow
def test_the_command_trains_on_emoji(data: Data, tmp_path: Path) -> None:
    arguments = ["tower", "--init", str(data.sizes), "--vocabulary", str(data.vocabulary), "--output", str(tmp_path)]
    arguments += ["--batch-size", "4", "--steps", "2", "--muon-lr", "0.01", "--num-validation", "5"]
    assert main([*arguments, "--validate-every", "2"]) == 0
    assert (tmp_path / "validation.csv").read_text().startswith("step,left,right,colour,count\n2,")
    assert load_chat(tmp_path / "export", data.vocabulary, dtype=torch.float32).model.config.num_query_tokens == 4


@pytest.mark.slow
@pytest.mark.usefixtures("without_noto")
def test_without_a_font_it_learns_from_the_drawings_that_are_here(
    data: Data,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ["tower", "--init", str(data.sizes), "--vocabulary", str(data.vocabulary), "--batch-size", "4"]
    arguments += ["--steps", "1", "--num-validation", "2", "--output", str(tmp_path / "run")]
    assert main(arguments) == 0
    (line,) = [message for message in caplog.messages if "noto" in message.lower()]
    assert line.startswith("drawn as twemoji alone: no NotoColorEmoji.ttf in ")
    assert (tmp_path / "run" / "export").is_dir()

    monkeypatch.setenv(NOTO_FONT_VARIABLE, str(tmp_path / "none.ttf"))
    installed_styles.cache_clear()
    capsys.readouterr()
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("viscpm finetune: ") and "none.ttf" in line


@pytest.mark.usefixtures("without_noto")
def test_talks_for_chat_do_without_the_font_too(caplog: pytest.LogCaptureFixture) -> None:
    training, validation = conversation_sources(DataSettings("emoji", num_validation=3), 32)
    assert validation is not None and len(validation) == 3
    pixels = [training.conversation(index, 0).pixels for index in range(8)]
    alone = EmojiConversations(bundled_names(), ["twemoji"], 32, TRAINING_SEED, NUM_EMOJI_EXAMPLES)
    assert all(np.array_equal(one, alone.conversation(index, 0).pixels) for index, one in enumerate(pixels))  # type: ignore[arg-type]
    assert len(caplog.messages) == 1
