"""What a trial's process is given and what it answers: plain values that travel between processes."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import Outcome, StopReason, Tick
from bsopt.units import Amount

__all__ = [
    "Budget",
    "Channel",
    "Seeds",
    "StopDecision",
    "TaskDescription",
    "TaskSpec",
    "TrialSpec",
    "checkpoint_name",
    "delete_state",
    "trial_folder",
]


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """Where the user's module and data come from, and where the learning rate and batch size go.

    Attributes:
        source: The study file's `task` block as plain data.
        folders: Folders where imports are looked up first.
        lr_path: Where the learning rate goes; None for the default names.
        batch_size_path: Where the micro-batch goes; None for the default name.
        verify: Whether what arrived is checked at train start.
        batch_size_is: What the data module's batch size means.
    """

    source: Mapping[str, Any]
    folders: tuple[str, ...] = ()
    lr_path: str | None = None
    batch_size_path: str | None = None
    verify: bool = True
    batch_size_is: Literal["micro", "global"] = "micro"


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a trial trains and when it validates.

    Attributes:
        length: Of a full trial, in epochs, samples or steps; None when only time limits it.
        tick_every: Nominal samples or epochs between ticks.
        seconds: Wall time of a trial; None for no limit.
        is_geometric: Whether it also validates at 1/16, 1/8, 1/4 and 1/2 of the way to the first tick.
    """

    length: Amount | None
    tick_every: Amount
    seconds: float | None = None
    is_geometric: bool = False


@dataclass(frozen=True, slots=True)
class Seeds:
    """Initial weights come from `weights`; data order and dropout from `data`."""

    weights: int
    data: int


@dataclass(frozen=True, slots=True)
class TaskDescription:
    """What building the task once, without training, tells.

    Attributes:
        num_train_samples: N; None for data of unknown length.
        num_train_batches: Batches an epoch at the described batch size; None for unknown length.
        drop_last: Whether the loader drops a ragged last batch.
        package: "pytorch_lightning" or "lightning.pytorch".
        module: The module's class, for people.
        data: The data's class, for people.
        num_parameters: Trainable parameters.
        has_batch_norm: Whether there is a BatchNorm layer.
        is_automatic: Whether optimization is automatic.
        has_epoch_plateau_scheduler: Whether an epoch-interval ReduceLROnPlateau needs a validation every epoch.
        optimizer: Name of the first optimizer's class.
        num_devices: Devices per node that the trainer would use.
        num_available_devices: GPUs of this host; None on a CPU.
        device: Their name ("cpu", "NVIDIA H200").
        device_memory_bytes: Memory of one device; None on a CPU.
        versions: Versions of torch and Lightning.
        state_bytes: At most so large is a checkpoint with the optimizer's state.
        places: "lr", "batch_size" or a further parameter -> the init argument that it came in by (`model.lr`), or the
            option of a LightningCLI (`--model.lr`); without those that a script's arguments hold.
    """

    num_train_samples: int | None
    num_train_batches: int | None
    drop_last: bool
    package: str
    module: str
    data: str
    num_parameters: int
    has_batch_norm: bool
    is_automatic: bool
    has_epoch_plateau_scheduler: bool
    optimizer: str | None
    num_devices: int
    num_available_devices: int | None
    device: str
    device_memory_bytes: int | None
    versions: Mapping[str, str] = field(default_factory=dict)
    state_bytes: int = 0
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """Everything a trial's ranks need.

    Attributes:
        number: Optuna's trial number.
        params: Every parameter of the trial.
        batch_size: Global batch size, the plan's.
        lr: Learning rate.
        plan: How the batch size is realised.
        task: Where module and data come from.
        init_args: Further parameters by path (`model.weight_decay`).
        objective: What counts, and at which value the trial ends.
        budget: How long it trains.
        max_steps: Optimizer updates of a full trial as far as they can be told before training, so that
            schedulers can plan; None where they can't.
        trainer: Further Trainer arguments.
        seeds: Of weights and of data.
        folder: The trial's own folder.
        checkpoints: Which weights are kept in it: "initial", "best", "last", "matched", each as a file of that name.
        matched_loss: Training loss of an epoch at which the "matched" weights are kept; None where they aren't.
        resume_file: Where the state after a tick is kept, also that of a paused trial, and where to go on from if it
            is there; None for neither.
        resume_overhead: Share of the training time that keeping the state may take; None keeps it after every tick.
        measure: Names of what callbacks measure.
        num_threads: Threads of the numerical libraries in each rank; None leaves them alone.
        num_steps: Optimizer updates of a full trial as far as they can be told, also where the number of epochs says
            it to the Trainer; None where they can't.
        num_epochs: Epochs of a full trial, a fraction rounded up; None where they can't be told.
        ghost_batch_norm: Samples over which BatchNorm layers take their statistics in training; None for all that they
            are given.
        study: The study's name.
        is_rehearsal: Whether only its first step is tried: nothing of it goes to the user's loggers and checkpoints.
    """

    number: int
    params: Mapping[str, Any]
    batch_size: int
    lr: float
    plan: Plan
    task: TaskSpec
    init_args: Mapping[str, Any]
    objective: Objective
    budget: Budget
    max_steps: int | None
    trainer: Mapping[str, Any]
    seeds: Seeds
    folder: str
    checkpoints: tuple[str, ...] = ()
    matched_loss: float | None = None
    resume_file: str | None = None
    resume_overhead: float | None = None
    measure: tuple[str, ...] = ()
    num_threads: int | None = None
    num_steps: int | None = None
    num_epochs: int | None = None
    ghost_batch_norm: int | None = None
    study: str = ""
    is_rehearsal: bool = False


def trial_folder(output: Path, number: int) -> Path:
    """Return the folder of a trial's log and weights inside a study's output."""
    return output / "trials" / f"{number:04d}"


def delete_state(path: Path) -> None:
    """Delete what a trial would go on from, a file or, of shards, a folder, if it is there.

    Raises:
        OSError: It can't be deleted.
    """
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def checkpoint_name(kind: str) -> str:
    """Return the file name of "initial", "best", "last" or "matched" weights.

    >>> checkpoint_name("best")
    'best.ckpt'
    """
    return f"{kind}.ckpt"


@dataclass(frozen=True, slots=True)
class StopDecision:
    """Whether a trial goes on or ends, and why.

    Attributes:
        stop_reason: Why it ends; None to go on.
        message: The same in a sentence for people.
        probability: Chance that the trial would end better than the study's best, or at its target in time; NaN
            where nobody asked or nothing is known.
        best: The trial's best value so far; NaN before the first finite report.
    """

    stop_reason: StopReason | None = None
    message: str = ""
    probability: float = math.nan
    best: float = math.nan

    @property
    def is_stop(self) -> bool:
        """Whether the trial ends."""
        return self.stop_reason is not None

    @property
    def outcome(self) -> Outcome | None:
        """Optuna's state of a trial that ends so, in lower case; None to go on."""
        return self.stop_reason.outcome if self.stop_reason is not None else None


class Channel(Protocol):
    """The line between a trial's rank 0 and the study."""

    def tick(self, tick: Tick) -> StopDecision:
        """Tell a tick and wait for the answer."""

    def is_cancelled(self) -> bool:
        """Whether the study wants the trial to end now; cheap, asked after every batch."""
