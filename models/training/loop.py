"""The training loop: forwards, backwards, updates, logs, saved states; on one process or many through accelerate."""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from models.training.logs import RunLog
from models.training.muon import Muon
from models.training.order import ExampleOrder
from models.training.schedule import Schedule
from models.training.state import StateError, keep_trained, load_state, save_state
from models.training.task import Batch, MovableBatch, Task

logger = logging.getLogger(__name__)

Precision = Literal["no", "fp16", "bf16"]


@dataclass(frozen=True)
class RunSettings:
    """How a task is trained; the defaults are the release's recipe (SPEC §9)."""

    output: Path
    schedule: Schedule
    epochs: float = 5.0  # where the schedule has no number of steps
    seed: int = 0
    batch_size: int = 1  # of one process and one backward
    accumulation: int = 1  # backwards of an update
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    max_gradient_norm: float = 0.0  # 0: not clipped
    muon_lr: float = 0.0  # of the task's hidden weights; 0: AdamW trains these too
    precision: Precision | None = None  # None: as accelerate is configured
    save_every: int = 500
    validate_every: int = 0  # 0: never
    log_every: int = 50
    loader_workers: int = 0
    resume: bool = False
    export_only: Path | None = None  # a folder for the outcome of the newest saved state; nothing else is done
    identity: dict[str, Any] = field(default_factory=dict)  # what a resumed run has to agree in


class _Step(nn.Module):
    """One forward of a task as a module's, which is what accelerate wraps; without a batch it validates."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.model = task.model
        self._task = task

    def forward(self, batch: MovableBatch | None) -> Any:
        # Inside of a forward the weights that FSDP spreads are together.
        return self._task.validate() if batch is None else self._task.loss(batch)


class _Batches(Dataset[list[Any]]):
    """The parts of each step's batch that one process works on."""

    def __init__(self, task: Task[Any], order: ExampleOrder, settings: RunSettings, rank: int) -> None:
        self._task, self._order = task, order
        size = settings.batch_size
        first = rank * size * settings.accumulation
        self._parts = [range(first + part * size, first + (part + 1) * size) for part in range(settings.accumulation)]

    def __getitem__(self, step: int) -> list[Any]:
        return [self._task.collate(self._order.positions(step, places)) for places in self._parts]


def train(task: Task[Batch], settings: RunSettings) -> None:
    """Train to the schedule's last step, save, and export into `output/export`.

    Raises:
        StateError: the folder holds a state of another run, or none where one is to be exported.
    """
    accelerator = Accelerator(mixed_precision=settings.precision or default_precision())
    run = _Run(task, settings, accelerator)
    if settings.export_only is None:
        run.train()
        run.export(settings.output / "export")
    else:
        if not run.restore():
            raise StateError(f"{settings.output}: holds no saved state to export")
        run.export(settings.export_only)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def default_precision() -> Precision:
    """That of accelerate's configuration; without one the release's, where there is a GPU."""
    configured = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if configured in ("no", "fp16", "bf16"):
        return configured  # type: ignore[return-value]  # narrowed by the line above
    return "fp16" if torch.cuda.is_available() else "no"


class _Run:
    """One process's part of a run."""

    def __init__(self, task: Task[Any], settings: RunSettings, accelerator: Accelerator) -> None:
        self.task, self.settings, self.accelerator = task, settings, accelerator
        groups = task.parameter_groups()
        trained = [parameter for group in groups for parameter in group["params"]]
        self.step_module, *self.optimizers = accelerator.prepare(_Step(task), *self._make_optimizers(groups))
        self._full_rates = [group["lr"] for group in self._groups()]
        self._rate_names = [f"learning_rate_{group['name']}" for group in self._groups()]
        accelerator.register_for_checkpointing(*task.stateful())
        global_batch_size = settings.batch_size * settings.accumulation * accelerator.num_processes
        self.order = ExampleOrder(task.num_examples(), global_batch_size, settings.seed)
        self.schedule = settings.schedule
        if not self.schedule.num_steps:
            num_steps = math.ceil(settings.epochs * task.num_examples() / global_batch_size)
            self.schedule = replace(self.schedule, num_steps=num_steps)
        self._run_identity = {
            "seed": settings.seed,
            "global_batch_size": global_batch_size,
            "num_processes": accelerator.num_processes,
            "num_examples": task.num_examples(),
            "trained_tensors": len(trained),
            **settings.identity,
        }
        keep_trained(accelerator, self.step_module)

    def _make_optimizers(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        """AdamW, and Muon for the task's hidden weights where it is wanted."""
        settings = self.settings
        optimizers: list[torch.optim.Optimizer] = []
        if settings.muon_lr:
            if self.accelerator.distributed_type == DistributedType.FSDP:
                raise ValueError("Muon needs whole matrices, which FSDP spreads over processes; leave out --muon-lr")
            hidden = {id(weight): factor for weight, factor in self.task.hidden_weights()}
            matrices = [weight for group in groups for weight in group["params"] if id(weight) in hidden]
            groups = [{**group, "params": [p for p in group["params"] if id(p) not in hidden]} for group in groups]
            muon_groups = [{"name": "muon", "params": matrices, "factors": [hidden[id(weight)] for weight in matrices]}]
            optimizers.append(Muon(muon_groups, settings.muon_lr, weight_decay=settings.weight_decay))
        if rest := [group for group in groups if group["params"]]:  # none where Muon trains all
            # eager, unfused steps take as long as a small model's backward
            adamw = torch.optim.AdamW(rest, betas=settings.betas, weight_decay=settings.weight_decay, fused=True)
            optimizers.insert(0, adamw)
        return optimizers

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def restore(self) -> int:
        """Restore the newest saved state -> its step, 0 where there is none. Raises StateError."""
        return load_state(self.accelerator, self.settings.output, self._run_identity)

    def export(self, folder: Path) -> None:
        """Gather the weights and have the task write them."""
        weights = self.accelerator.get_state_dict(self.step_module)
        if self.accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            prefix = "model."
            self.task.export(folder, {name.removeprefix(prefix): tensor.cpu() for name, tensor in weights.items()})
            logger.info("exported to %s", folder)

    def train(self) -> None:
        settings, accelerator = self.settings, self.accelerator
        done = self.restore() if settings.resume else 0
        num_steps = self.schedule.num_steps
        is_main = accelerator.is_main_process
        if is_main:
            logger.info("steps %d to %d, %d examples a step", done, num_steps, self.order.global_batch_size)
        with (
            RunLog(settings.output, done) if is_main else nullcontext() as log,
            tqdm(total=num_steps, initial=done, disable=None if is_main else True, unit="step") as bar,
        ):
            started_s = perf_counter()
            for step, parts in self._batches(done, num_steps):
                values = self._update(step, parts)
                completed = step + 1
                bar.update()
                if log is not None and (completed % settings.log_every == 0 or completed == num_steps):
                    per_step_s = (perf_counter() - started_s) / (completed - done)
                    numbers = {name: float(value) for name, value in values.items()}
                    progress = {"epoch": self.order.epoch(completed), "step_s": per_step_s}
                    log.steps(completed, {**numbers, **self.task.counts(), **progress})
                    bar.set_postfix(loss=f"{numbers['loss']:.4f}")
                    left = _duration((num_steps - completed) * per_step_s)
                    logger.info(
                        "step %d of %d, loss %.4f, %.3f s a step, %s left",
                        *(completed, num_steps, numbers["loss"], per_step_s, left),
                    )
                is_last = completed == num_steps
                if settings.validate_every and (completed % settings.validate_every == 0 or is_last):
                    self._validate(completed, log)
                if completed % settings.save_every == 0 or is_last:
                    save_state(accelerator, settings.output, completed, self._run_identity)

    def _batches(self, first: int, end: int) -> Iterator[tuple[int, list[Any]]]:
        steps = range(first, end)
        dataset = _Batches(self.task, self.order, self.settings, self.accelerator.process_index)
        loader = DataLoader(dataset, batch_size=None, sampler=steps, num_workers=self.settings.loader_workers)
        return zip(steps, loader, strict=True)

    def _update(self, step: int, parts: Sequence[MovableBatch]) -> dict[str, float | Tensor]:
        """One update of the weights: the sum of all losses over the sum of all weights, of all processes."""
        settings, accelerator = self.settings, self.accelerator
        torch.manual_seed(settings.seed * 1_000_003 + step * accelerator.num_processes + accelerator.process_index)
        share = self.schedule.share(step)
        for group, rate in zip(self._groups(), self._full_rates, strict=True):
            group["lr"] = rate * share
        self.step_module.train()
        first_weight: Tensor | None = None
        sums = torch.zeros(2, device=accelerator.device)
        for number, part in enumerate(parts, 1):
            # Gradients meet once an update, not once a part
            waiting = accelerator.no_sync(self.step_module) if number < len(parts) else nullcontext()
            with waiting:
                loss, weight = self.step_module(part.to(accelerator.device))
                both = torch.stack([loss.detach().float(), weight.float()])
                both = accelerator.reduce(both, "sum")
                sums = sums + both
                if first_weight is None:
                    first_weight = both[1].clamp(min=1)
                # Processes' gradients are averaged, so each counts for all.
                accelerator.backward(loss * (accelerator.num_processes / first_weight))
        assert first_weight is not None
        total_weight = sums[1].clamp(min=1)
        if len(parts) > 1:
            self._scale_gradients(first_weight / total_weight)
        values: dict[str, float | Tensor] = {"loss": sums[0] / total_weight, "weight": sums[1]}
        if settings.max_gradient_norm:
            values["gradient_norm"] = accelerator.clip_grad_norm_(
                self.step_module.parameters(), settings.max_gradient_norm
            )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.task.after_step()
        return values | {name: rate * share for name, rate in zip(self._rate_names, self._full_rates, strict=True)}

    def _scale_gradients(self, factor: Tensor) -> None:
        for group in self._groups():
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    def _validate(self, step: int, log: RunLog | None) -> None:
        self.step_module.eval()
        with torch.no_grad():
            measures = self.step_module(None)
        if log is not None and measures:
            log.validation(step, measures)


def _duration(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
