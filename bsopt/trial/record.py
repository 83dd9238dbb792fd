"""What a trial measured, as plain values: ticks, the record, why it stopped, and what study it belongs to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, cast

from bsopt.laws.lattice import nearest_in_ratio
from bsopt.laws.lr_ladder import MeasuredStart
from bsopt.laws.scaling import Reference
from bsopt.trial.asked import AskedLimits, AskedSearch, experiment_in, limits_in, momentum_in, search_in
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.units import format_number

__all__ = ["FORMAT_VERSION", "Outcome", "StepUnit", "StopReason", "StudyInfo", "Tick", "TrialRecord", "ranked"]

FORMAT_VERSION = 2
"""Of what is stored; 2 since a study's objective is one value. Other formats are refused."""

Outcome = Literal["running", "complete", "pruned", "fail"]
StepUnit = Literal["samples", "epochs", "steps"]
"""What a trial's reports are counted in; steps are optimizer updates."""


class StopReason(str, Enum):
    """Why a trial ended. The value is what is stored and shown."""

    COMPLETED = "completed"
    CONVERGED = "converged"
    TARGET_REACHED = "target_reached"
    TIMEOUT = "timeout"
    PRUNED = "pruned"  # by a pruner other than ours, which gives no reason
    PRUNED_PLATEAU = "pruned_plateau"
    PRUNED_HOPELESS = "pruned_hopeless"
    PAUSED = "paused"  # a later trial may go on from here
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"

    @property
    def outcome(self) -> Outcome:
        """The Optuna state it maps to, in lower case."""
        return _OUTCOMES[self]

    @property
    def words(self) -> str:
        """The reason in a word or three, as people read it.

        >>> StopReason.OUT_OF_MEMORY.words
        'out of memory'
        """
        return self.value.replace("_", " ")

    @property
    def is_retried(self) -> bool:
        """Whether the trial is run again with the same parameters and doesn't count towards the total."""
        return self in (StopReason.INTERRUPTED, StopReason.LOST)


_OUTCOMES: dict[StopReason, Outcome] = {
    StopReason.COMPLETED: "complete",
    StopReason.CONVERGED: "complete",
    StopReason.TARGET_REACHED: "complete",
    StopReason.TIMEOUT: "complete",
    StopReason.PRUNED: "pruned",
    StopReason.PRUNED_PLATEAU: "pruned",
    StopReason.PRUNED_HOPELESS: "pruned",
    StopReason.PAUSED: "pruned",
    StopReason.DIVERGED: "pruned",
    StopReason.OUT_OF_MEMORY: "pruned",
    StopReason.FAILED: "fail",
    StopReason.INTERRUPTED: "fail",
    StopReason.LOST: "fail",
}


@dataclass(frozen=True, slots=True)
class Tick:
    """One validation.

    Attributes:
        index: 1 for the first; tick i of every trial of a study falls at the same nominal samples seen.
        samples: Nominal samples seen, N × epochs.
        step: Optimizer updates done.
        epoch: Epochs done, with their fraction.
        seconds: Wall time since training began.
        value: The monitored metric now (not the best so far), averaged over ranks; may be NaN or infinite.
        lr: Learning rate of the first parameter group.
        is_decaying: Whether a schedule will still lower the learning rate.
        metrics: Every scalar that the module logged, the monitored one among them.
        is_training_finite: Where the value isn't finite, whether the last training loss and the weights are; else None.
    """

    index: int
    samples: float
    step: int
    epoch: float
    seconds: float
    value: float
    lr: float | None = None
    is_decaying: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_training_finite: bool | None = None

    @property
    def where(self) -> str:
        """How far training was: the epoch, or the samples where the first of data without a length isn't over."""
        if self.epoch == 0.0 and self.samples > 0.0:
            return f"{format_number(self.samples, thousands=True)} samples"
        return f"epoch {format_number(self.epoch, digits=3, thousands=True)}"


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """All that one trial measured.

    A trial of a foreign study has what Optuna keeps (parameters, value, reports as ticks) and None elsewhere.

    Attributes:
        number: Optuna's trial number.
        outcome: Optuna's state in lower case.
        batch_size: The global batch size trained, in samples: the plan's where there is one, else the parameter.
        lr: The learning rate asked for.
        params: Every Optuna parameter as stored, `batch_size` and `lr` among them.
        stop_reason: Why it ended; None while it runs and for foreign trials.
        message: The same in a sentence for people.
        value: What Optuna holds as the trial's value; the best value of the curve for a pruned trial.
        best_tick: Index of the tick with the best value; None without ticks.
        ticks: The curve.
        plan: How the batch size was realised.
        seed: Seed of data order and dropout.
        num_train_samples: N, samples in the training set.
        num_steps: Optimizer updates done.
        samples_exact: Samples that really went through the model, ragged ends and `drop_last` counted.
        seconds: Wall time of training, validation included, start-up not.
        seconds_per_epoch: Median over whole epochs, training only.
        seconds_per_step: Median time of an optimizer update.
        samples_per_second: Training throughput over all ranks.
        peak_memory_bytes: Largest memory of one rank: allocated on a GPU, growth of the process on a CPU.
        energy_joules: Energy used, where it can be measured.
        device: What it ran on ("cpu", "NVIDIA H200").
        precision: Lightning's precision string.
        started: Unix time of the start.
        warnings: What the user should know about this trial.
        measurements: What callbacks measured, by callback name, as plain data.
        confirms: Number of the trial that this one repeats over a fresh seed; None for a trial of the search.
        design_seed: Which seed of the study's designed experiment it trained; None for a trial of the search.
        design_look: How often the designed experiment had been judged before this run was asked for.
        design_variant: The variant of the experiment that it trained, with settings of its own; None without one.
        is_feasible: Whether it kept every constraint that was set on it.
    """

    number: int
    outcome: Outcome
    batch_size: int | None = None
    lr: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    stop_reason: StopReason | None = None
    message: str = ""
    value: float | None = None
    best_tick: int | None = None
    ticks: tuple[Tick, ...] = ()
    plan: Plan | None = None
    seed: int | None = None
    num_train_samples: int | None = None
    num_steps: int | None = None
    samples_exact: int | None = None
    seconds: float | None = None
    seconds_per_epoch: float | None = None
    seconds_per_step: float | None = None
    samples_per_second: float | None = None
    peak_memory_bytes: int | None = None
    energy_joules: float | None = None
    device: str | None = None
    precision: str | None = None
    started: float | None = None
    warnings: tuple[str, ...] = ()
    measurements: Mapping[str, Any] = field(default_factory=dict)
    confirms: int | None = None
    design_seed: int | None = None
    design_look: int = 0
    design_variant: str | None = None
    is_feasible: bool = True

    @property
    def further(self) -> dict[str, Any]:
        """The parameters beside batch size and learning rate."""
        return {name: value for name, value in self.params.items() if name not in ("batch_size", "lr")}

    @property
    def ends_at_best(self) -> bool:
        """Whether its last validation was its best: with a larger budget it might have gone on."""
        return self.best is not None and len(self.ticks) > 1 and self.best.index == self.ticks[-1].index

    @property
    def best(self) -> Tick | None:
        """The tick with the best value."""
        return next((tick for tick in self.ticks if tick.index == self.best_tick), None)

    @property
    def is_placed(self) -> bool:
        """Whether it has a batch size and a learning rate that can stand on log axes."""
        return bool(self.batch_size and self.lr and self.batch_size > 0 and self.lr > 0)

    @property
    def has_value(self) -> bool:
        """Whether its value is a finite number."""
        return self.value is not None and math.isfinite(self.value)

    @property
    def has_result(self) -> bool:
        """Whether its value says how good its batch size and learning rate are, for a pruned trial at least so far.

        After divergence or too little memory it doesn't, whatever the curve had reached, nor where it breaks a
        constraint: nobody may use what it found. A variant of an experiment has settings that the study doesn't.
        """
        is_lost = self.stop_reason in (StopReason.DIVERGED, StopReason.OUT_OF_MEMORY) or not self.is_feasible
        is_lost = is_lost or self.design_variant is not None
        return self.outcome in ("complete", "pruned") and not is_lost and self.is_placed and self.has_value

    @property
    def ending(self) -> str:
        """Why it ended in a word or three; the outcome where no reason is known."""
        return self.stop_reason.words if self.stop_reason else self.outcome


@dataclass(frozen=True, slots=True)
class StudyInfo:
    """What a study searches and how its trials were trained; for a foreign study, what can be told from its trials.

    Attributes:
        name: Optuna's study name.
        objective: What its values are and which way they get better.
        batch_size_range: Smallest and largest global batch size of the space, in samples.
        lr_range: Smallest and largest learning rate of the space.
        batch_sizes: The lattice of batch sizes; empty when any integer may be proposed.
        rule: Name of the scaling rule of the prior.
        reference: Where a learning rate known to be good belongs.
        measured_start: What came of measuring the learning rate before the first trial, which is then the reference;
            None where nobody tried.
        optimizer: The optimizer's name, for defaults.
        num_train_samples: N; None where it isn't known.
        units_per_sample: How many of what the data count their batch size in make a sample: tokens of a sequence, for
            one; 1 where they count samples. Budgets and ticks are in samples, laws and costs in those units.
        budget_samples: Nominal samples of a full trial; None where a trial is limited by time or the user's own code.
        tick_samples: Nominal samples between ticks.
        has_early_ticks: Whether trials also validate at 1/16, 1/8, 1/4 and 1/2 of the way to the first of these.
        num_devices: Devices per node of each trial.
        num_nodes: Nodes of each trial.
        seed: The study's seed.
        num_trials: Trials asked for.
        has_batch_norm: Whether the model has BatchNorm layers; None where it isn't known.
        max_micro_batch_size: Largest micro-batch that the probe verified, or the user's limit.
        config: The study file, defaults filled in, secrets removed.
        places: "lr", "batch_size" or a further parameter -> where the user's code takes it, as building the task
            showed: an init argument (`model.lr`), or an option of a LightningCLI (`--model.lr`).
        file: Path of the study file, as it was named on the host that made the study; None where there is none.
        environment: Versions and hardware.
        step_unit: What reports are counted in; None where nobody has said: then nothing is told in samples.
        lr_choices: The learning rates of a space that has choices or steps of them; empty for a continuous one.
    """

    name: str
    objective: Objective = field(default_factory=Objective)
    batch_size_range: tuple[int, int] | None = None
    lr_range: tuple[float, float] | None = None
    batch_sizes: tuple[int, ...] = ()
    rule: str | None = None
    reference: Reference | None = None
    measured_start: MeasuredStart | None = None
    optimizer: str | None = None
    num_train_samples: int | None = None
    units_per_sample: float = 1.0
    budget_samples: float | None = None
    tick_samples: float | None = None
    has_early_ticks: bool = False
    num_devices: int = 1
    num_nodes: int = 1
    seed: int | None = None
    num_trials: int | None = None
    has_batch_norm: bool | None = None
    max_micro_batch_size: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    file: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    step_unit: StepUnit | None = "samples"
    lr_choices: tuple[float, ...] = ()

    @property
    def search(self) -> AskedSearch | None:
        """The study file's `search` block; None for a study without a file."""
        return search_in(self.config)

    @property
    def limits(self) -> AskedLimits:
        """What the study file says of memory."""
        return limits_in(self.config)

    @property
    def momentum(self) -> float | None:
        """The momentum that the study file gives to the model; None where it gives none."""
        return momentum_in(self.config)

    @property
    def experiment(self) -> Mapping[str, Any] | None:
        """The study file's `experiment` block as plain data; None without a designed experiment."""
        return experiment_in(self.config)

    def on_lattice(self, batch_size: int) -> int:
        """Return the batch size that is trained with where a sampler proposed one: the lattice's nearest in ratio."""
        return nearest_in_ratio(batch_size, self.batch_sizes) if self.batch_sizes else batch_size

    @property
    def folder(self) -> Path:
        """Where its logs, report and figures go, seen from where the study is run."""
        return Path(self.config.get("output") or f"runs/{_folder_name(self.name)}")

    @property
    def artifact_folder(self) -> Path:
        """Where Optuna's artifact store keeps its files."""
        return Path(self.config.get("artifacts") or self.folder.parent / "artifacts")


def ranked(records: Iterable[TrialRecord], objective: Objective) -> list[TrialRecord]:
    """Return the trials that ran to their end and have a result, best first; the earlier one of equals.

    The one rule for what "the best trial" is, wherever it is shown.
    """
    ended = [record for record in records if record.outcome == "complete" and record.has_result]
    return sorted(ended, key=lambda record: (objective.sign * cast(float, record.value), record.number))


def _folder_name(name: str) -> str:
    """Return a study's name as the name of one folder; anybody's study may have any."""
    return re.sub(r"[^\w.\- ]", "_", name).strip(". ") or "study"
