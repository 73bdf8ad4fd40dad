"""`viscpm finetune chat`: what its flags mean, and which do not go together."""

from pathlib import Path

import pytest
import torch

from models.checkpoints.conversion import write_json
from models.networks.chat.config import ChatConfig
from models.networks.chat.model import ChatModel
from models.training.chat.export import export_chat
from models.training.chat.start import chat_from_sizes
from models.training.chat.task import ChatSettings
from models.training.cli import main
from models.training.lora import LoraSettings, is_adapter
from tests.models.training.runs import Begun, begin
from tests.models.training_files import NUM_CONVERSATIONS, Data

CLI = "models.training.chat.cli"


@pytest.fixture
def checkpoint(data: Data, model: ChatModel, tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    export_chat(folder, model.config, model.state_dict(), data.vocabulary, torch.float16, writes_published=False)
    return folder


@pytest.fixture
def files(data: Data) -> list[object]:
    return ["--data", data.conversations, "--images", data.images, "--min-side-px", 32]


def start(data: Data) -> list[object]:
    return ["--init", data.sizes, "--vocabulary", data.vocabulary]


@pytest.mark.slow
def test_without_flags_it_is_the_releases_recipe(
    checkpoint: Path, files: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = begin(monkeypatch.setattr, CLI, "chat", "--checkpoint", checkpoint, *files, "--output", tmp_path / "run")
    assert begun.task.settings == ChatSettings()
    assert begun.settings.identity == {"task": "chat"}
    assert begun.settings.output == tmp_path / "run"
    assert (begun.settings.betas, begun.settings.weight_decay, begun.settings.epochs) == ((0.9, 0.98), 0.01, 5.0)
    assert begun.settings.schedule.warmup_steps == 200
    assert len(begun.task.source) == NUM_CONVERSATIONS and begun.task.validation is None
    assert next(begun.task.model.parameters()).dtype == torch.float32


def test_flags_reach_the_task(data: Data, files: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--no-tune-vision", "--no-tune-queries", "--max-len", 99, "--export-dtype", "bfloat16"]
    more = ["--export-published", "--gradient-checkpointing", "--num-validation", 3, "--seed", 5]
    begun = begin(monkeypatch.setattr, CLI, "chat", *start(data), *files, "--output", tmp_path, *flags, *more)
    assert begun.task.settings == ChatSettings(
        tune_vision=False,
        tune_queries=False,
        tune_patches=True,  # with random weights
        max_len=99,
        export_dtype=torch.bfloat16,
        writes_published=True,
        is_recomputed=True,
    )
    assert (len(begun.task.source), len(begun.task.validation)) == (NUM_CONVERSATIONS - 3, 3)
    assert begun.settings.seed == 5
    expected = chat_from_sizes(data.sizes, data.vocabulary, seed=5)[0].state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in begun.task.model.state_dict().items())


@pytest.mark.parametrize(
    ("flags", "rates"),
    [
        ((), (1e-5, 1e-5, 1e-5)),
        (("--lr", "1e-3"), (1e-3, 1e-3, 1e-3)),
        (("--lr", "1e-3", "--llm-lr", "1e-4"), (1e-3, 1e-4, 1e-4)),
        (("--lr", "1e-3", "--embedding-lr", "0"), (1e-3, 1e-3, 0.0)),
        (("--llm-lr", "0"), (1e-5, 0.0, 0.0)),
    ],
)
def test_a_rate_that_is_not_given_is_that_of_the_larger_part(
    data: Data,
    files: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    rates: tuple[float, float, float],
) -> None:
    begun = begin(monkeypatch.setattr, CLI, "chat", *start(data), *files, "--output", tmp_path, *flags)
    settings = begun.task.settings
    assert (settings.lr, settings.llm_lr, settings.embedding_lr) == rates


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "lora"),
    [
        ((), None),
        (("--lora-rank", "4"), LoraSettings(4, 8)),
        (("--lora-rank", "4", "--lora-alpha", "0"), LoraSettings(4, 0)),
        (("--lora-rank", "2", "--lora-parts", "both", "--lora-embedding"), LoraSettings(2, 4, "both", True)),
    ],
)
def test_adapters_are_put_in_where_they_have_a_rank(
    data: Data,
    files: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    lora: LoraSettings | None,
) -> None:
    def run() -> Begun:
        return begin(monkeypatch.setattr, CLI, "chat", *start(data), *files, "--output", tmp_path, *flags)

    task = run().task
    assert task.settings.lora == lora
    drawn = {name: tensor for name, tensor in task.model.state_dict().items() if is_adapter(name)}
    assert bool(drawn) == (lora is not None)
    again = run().task.model.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in drawn.items()), "drawn from the run's seed"


@pytest.mark.slow
def test_layers_and_a_tower_come_before_training(
    data: Data, checkpoint: Path, files: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--tower", checkpoint, "--deepen", 1, "--output", tmp_path / "run", "--seed", 9]
    task = begin(monkeypatch.setattr, CLI, "chat", *start(data), *files, *flags).task
    model, own = task.model, chat_from_sizes(data.sizes, data.vocabulary, seed=9)[0]
    assert len(model.llm.layers) == len(own.llm.layers) + 1
    assert torch.equal(model.llm.embedding.weight, own.llm.embedding.weight)
    assert not torch.equal(model.query_tokens, own.query_tokens), "the queries are the tower's"


@pytest.mark.slow
def test_a_tower_of_other_sizes_is_refused(
    data: Data,
    model: ChatModel,
    files: list[object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fields = model.config.to_published() | {"query_num": 3}
    write_json(tmp_path / "other.json", fields)
    other = ChatModel(ChatConfig.from_published(fields))
    (tmp_path / "tower").mkdir()
    export_chat(tmp_path / "tower", other.config, other.state_dict(), data.vocabulary, torch.float32, False)
    flags = [*start(data), *files, "--tower", tmp_path / "tower", "--output", tmp_path / "run"]
    assert main([str(flag) for flag in ["chat", *flags]]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"viscpm finetune: {tmp_path / 'tower'}: its tower is ")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data", "x", "--output", "y"], "one of the arguments --checkpoint --init is required"),
        (["--checkpoint", "a", "--init", "b", "--data", "x", "--output", "y"], "not allowed with argument"),
        (["--checkpoint", "a", "--output", "y"], "--data"),
        (["--checkpoint", "a", "--data", "x"], "--output"),
        (["--checkpoint", "a", "--data", "x", "--output", "y", "--lora-parts", "all"], "invalid choice: 'all'"),
        (["--checkpoint", "a", "--data", "x", "--output", "y", "--export-dtype", "int8"], "invalid choice: 'int8'"),
        (["--checkpoint", "a", "--data", "x", "--output", "y", "--deepen", "x"], "invalid int value: 'x'"),
    ],
)
def test_wrong_flags_are_2(capsys: pytest.CaptureFixture[str], flags: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["chat", *flags])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_what_cannot_be_used_is_one_line(
    data: Data, files: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*flags: object) -> str:
        assert main([str(flag) for flag in ["chat", *flags, "--output", tmp_path]]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line.removeprefix("viscpm finetune: ")

    assert refused("--checkpoint", tmp_path / "no", *files) == f"{tmp_path / 'no'}: no such file or folder"
    assert refused("--init", data.sizes, *files) == "--init needs --vocabulary"
    assert "it must be 0 or more and under 1" in refused(*start(data), *files, "--replay", 1)
    held_out = refused(*start(data), *files, "--num-validation", NUM_CONVERSATIONS)
    assert held_out.endswith(f"{NUM_CONVERSATIONS} conversations, of which {NUM_CONVERSATIONS} are to be validated on")
