"""A run's saved states: whole or not there at all, the last two kept.

`states/step-00000500/` holds what accelerate writes (weights, optimiser, loss scale; one file or shards) and
`run.json`, which says what run it belongs to.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

NUM_KEPT = 2
STATES_FOLDER = "states"
RUN_FILE = "run.json"
_STATE = re.compile(r"step-(\d{8})")


class StateError(Exception):
    """A saved state that does not belong to this run; the message is one line."""


def save_state(accelerator: Accelerator, run_folder: Path, step: int, run: Mapping[str, Any]) -> Path:
    """Save the state after `step` steps; called by every process, and done when it returns.

    Args:
        run: what a resumed run has to agree in.
    """
    folder = run_folder / STATES_FOLDER / f"step-{step:08d}"
    partial = folder.with_name(folder.name + ".partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / RUN_FILE).write_text(json.dumps({"step": step, **run}, indent=1) + "\n", encoding="utf-8")
        _sync(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        _sync_folder(folder.parent)
        for _, old in saved_states(run_folder)[:-NUM_KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return folder


def saved_states(run_folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every whole state, oldest first."""
    states = run_folder / STATES_FOLDER
    found = (
        [(match, path) for path in states.iterdir() if (match := _STATE.fullmatch(path.name))]
        if states.is_dir()
        else []
    )
    return sorted((int(match[1]), path) for match, path in found)


def load_state(accelerator: Accelerator, run_folder: Path, run: Mapping[str, Any]) -> int:
    """Restore the newest state and return its step; 0 and nothing restored where there is none.

    Raises:
        StateError: the state is of a run that differs in what `run` says.
    """
    states = saved_states(run_folder)
    if not states:
        return 0
    step, folder = states[-1]
    saved = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    for name, value in run.items():
        if saved.get(name, value) != value:
            raise StateError(f"{folder}: saved by a run with {name} {saved[name]}, resumed with {value}")
    accelerator.load_state(str(folder), strict=False)  # what is not trained is not in there
    return step


def keep_trained(accelerator: Accelerator, module: nn.Module) -> None:
    """Have states leave out frozen parameters, which a run has from where it began; FSDP's shards hold all."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}

    def leave_out(modules: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
        for number, tensors in enumerate(weights):
            weights[number] = {name: tensor for name, tensor in tensors.items() if name not in frozen}

    accelerator.register_save_state_pre_hook(leave_out)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
