"""`viscpm finetune tower`: what its flags mean, and a run of two steps."""

from pathlib import Path

import pytest
import torch

from models.checkpoints.loading import load_chat
from models.emoji.names import bundled_names
from models.emoji.sources import EmojiConversations
from models.training.chat.start import chat_from_sizes
from models.training.cli import main
from models.training.sources import NUM_EMOJI_EXAMPLES
from tests.models.training.runs import begin
from tests.models.training_files import Data

CLI = "models.training.chat.tower_cli"


@pytest.fixture(autouse=True)
def twemoji_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noto's font is the system's, and not everywhere."""

    def conversations(side_px: int, seed: int) -> EmojiConversations:
        return EmojiConversations(bundled_names(), ("twemoji",), side_px, seed, NUM_EMOJI_EXAMPLES)

    monkeypatch.setattr(f"{CLI}.emoji_conversations", conversations)


def flags(data: Data, output: Path, *more: object) -> list[str]:
    begun = ["tower", "--init", data.sizes, "--vocabulary", data.vocabulary, "--output", output, *more]
    return [str(flag) for flag in begun]


def test_flags_reach_the_task(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = begin(monkeypatch.setattr, CLI, *flags(data, tmp_path, "--lr", "1e-3", "--seed", 4))
    assert begun.settings.identity == {"task": "tower"}
    assert [group["lr"] for group in begun.task.parameter_groups()] == [1e-3]
    assert begun.task.num_examples() == NUM_EMOJI_EXAMPLES
    assert begun.task.validation is None and begun.task.validate() == {}
    expected = chat_from_sizes(data.sizes, data.vocabulary, seed=4)[0].state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in begun.task.model.chat.state_dict().items())


@pytest.mark.slow
def test_heads_are_drawn_from_the_runs_seed(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = []
    for seed in (1, 1, 2):
        task = begin(monkeypatch.setattr, CLI, *flags(data, tmp_path, "--seed", seed)).task
        heads.append(torch.cat([parameter.flatten() for parameter in task.model.heads.parameters()]))
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


@pytest.mark.slow
def test_scenes_that_are_validated_on_are_not_learnt_from(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = begin(monkeypatch.setattr, CLI, *flags(data, tmp_path, "--num-validation", 5)).task
    assert len(task.validation) == 5
    learnt = {task.source.labelled_picture(index, 0).pixels.tobytes() for index in range(40)}
    held_out = {task.validation.labelled_picture(index, 0).pixels.tobytes() for index in range(5)}
    assert len(held_out) == 5 and not learnt & held_out


@pytest.mark.slow
def test_a_run_exports_a_chat_checkpoint(data: Data, tmp_path: Path) -> None:
    assert main(flags(data, tmp_path, "--steps", 2, "--lr", "1e-2", "--warmup-steps", 1, "--batch-size", 2)) == 0
    loaded, begun = load_chat(tmp_path / "export"), chat_from_sizes(data.sizes, data.vocabulary, seed=0)[0]
    for name, tensor in begun.state_dict().items():
        moved = not torch.equal(loaded.model.state_dict()[name], tensor)
        if name.startswith(("llm.", "projector.")):
            assert not moved, name
    assert not torch.equal(loaded.model.query_tokens, begun.query_tokens)


def test_flags_that_do_not_fit_are_refused(data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tower", "--init", str(data.sizes), "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "viscpm finetune: --init needs --vocabulary\n"
    for arguments in (["tower", "--output", "x"], ["tower", "--init", "a", "--checkpoint", "b", "--output", "x"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
