"""Which runs a batch-size experiment consists of: arms of batch sizes and learning rates, over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna

from bsopt.config import ExperimentConfig, StudyConfig
from bsopt.experiment.findings.table import ARMS, arms_of, lr_of_arms
from bsopt.storage import queue
from bsopt.trial.record import StudyInfo

__all__ = ["MEASURES", "Design", "DesignedRun", "Queued", "design_of", "identity", "queue_designed"]

MEASURES = ("weight_distance", "update_norms")
"""What callbacks measure in every designed run."""


@dataclass(frozen=True, slots=True)
class DesignedRun:
    """One training run of the design.

    Attributes:
        batch_size: Global batch size, samples.
        lr: Learning rate.
        seed: Which of the design's seeds; runs of one seed start from the same weights.
    """

    batch_size: int
    lr: float
    seed: int


@dataclass(frozen=True, slots=True)
class Design:
    """A batch-size experiment.

    Attributes:
        batch_sizes: Global batch sizes, smallest first.
        reference_lr: Learning rate at the smallest batch size: of the arm `fixed_lr`, and what `scaled_lr` scales.
        higher_lr: Learning rate of the arm `higher_lr`.
        arms: Names, of `bsopt.experiment.findings.table.ARMS`.
        grid: Learning rates of the arm `grid`, smallest first; empty without it.
        num_seeds: Runs of each configuration.
        patience: How long a run goes on without a better value, in epochs or samples, as people write it.
        matched_loss: Training loss at which the runs' weights are kept to compare their sharpness; None to compare it
            at the best validation loss.
        further: Values of the study's further parameters, the same in every run.
    """

    batch_sizes: tuple[int, ...]
    reference_lr: float
    higher_lr: float
    arms: tuple[str, ...]
    grid: tuple[float, ...] = ()
    num_seeds: int = 5
    patience: str = "100 epochs"
    matched_loss: float | None = None
    further: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: ExperimentConfig) -> Design:
        """Return the design that a study file's `experiment` block asks for."""
        arms = tuple(arm for arm in ARMS if arm in config.arms and (arm != "grid" or config.grid))
        return cls(
            batch_sizes=tuple(sorted(set(config.batch_sizes))),
            reference_lr=config.reference_lr,
            higher_lr=config.higher_rate,
            arms=arms,
            grid=tuple(sorted(set(config.grid))) if "grid" in arms else (),
            num_seeds=config.seeds,
            patience=str(config.patience),
            matched_loss=config.matched_loss,
            further=dict(config.params),
        )

    def arms_of(self, batch_size: int, lr: float) -> tuple[str, ...]:
        """Return the arms that a configuration belongs to."""
        found = arms_of(
            batch_size,
            lr,
            smallest_batch_size=self.batch_sizes[0],
            reference_lr=self.reference_lr,
            higher_lr=self.higher_lr,
        )
        return tuple(arm for arm in found if arm in self.arms and (arm != "grid" or _among(lr, self.grid)))

    @property
    def configurations(self) -> tuple[tuple[int, float], ...]:
        """Every (batch size, learning rate), once however many arms it belongs to."""
        found: dict[tuple[int, str], tuple[int, float]] = {}
        for B in self.batch_sizes:
            rates = lr_of_arms(
                B,
                smallest_batch_size=self.batch_sizes[0],
                reference_lr=self.reference_lr,
                higher_lr=self.higher_lr,
            )
            for lr in [*self.grid, *(rates[arm] for arm in self.arms if arm in rates)]:
                found.setdefault((B, f"{lr:.6g}"), (B, lr))
        return tuple(sorted(found.values()))

    @property
    def runs(self) -> tuple[DesignedRun, ...]:
        """Every run, seed by seed: an interrupted experiment has whole seeds to compare."""
        return tuple(DesignedRun(B, lr, seed) for seed in range(self.num_seeds) for B, lr in self.configurations)


@dataclass(frozen=True, slots=True)
class Queued:
    """Designed runs of a study.

    Attributes:
        new: Queued just now.
        total: That the design has.
    """

    new: int
    total: int


def identity(batch_size: int, lr: float, seed: int) -> tuple[int, str, int]:
    """Return what only one run of an experiment may be; learning rates are the same to six digits."""
    return batch_size, f"{lr:.6g}", seed


def design_of(source: StudyConfig | StudyInfo) -> Design | None:
    """Return a study's design, None where its file asks for no experiment."""
    if isinstance(source, StudyInfo):
        config = ExperimentConfig.model_validate(source.experiment) if source.experiment is not None else None
    else:
        config = source.experiment
    return Design.of(config) if config is not None else None


def queue_designed(study: optuna.Study, config: StudyConfig) -> Queued:
    """Queue the designed runs that a study doesn't have yet."""
    design = design_of(config)
    if design is None:
        return Queued(0, 0)
    runs = [(run.batch_size, run.lr, run.seed) for run in design.runs]
    return Queued(queue.queue_design(study, runs, further=design.further), len(runs))


def _among(lr: float, rates: tuple[float, ...]) -> bool:
    return any(abs(lr / rate - 1) < 1e-6 for rate in rates)
