"""Which runs a batch-size experiment consists of: arms of batch sizes and learning rates, over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna

from bsopt.config import ExperimentConfig, StudyConfig
from bsopt.experiment.findings.table import ARMS, arms_of, lr_of_arms
from bsopt.storage import queue
from bsopt.trial.designed import DesignedRun
from bsopt.trial.record import StudyInfo

__all__ = ["MEASURES", "Design", "DesignedRun", "Queued", "Variant", "design_of", "queue_designed"]

MEASURES = ("weight_distance", "update_norms")
"""What callbacks measure in every designed run."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The design's runs once more, with other settings.

    Attributes:
        name: The study file's.
        arms: Whose runs.
        is_precision: Whether nothing but the Trainer's precision is changed.
    """

    name: str
    arms: tuple[str, ...]
    is_precision: bool


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
        variants: What is compared with the study's own settings.
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
    variants: tuple[Variant, ...] = ()

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
            variants=tuple(
                Variant(name, tuple(arm for arm in ARMS if arm in variant.arms), variant.is_precision)
                for name, variant in config.variants.items()
            ),
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
        """Every run, seed by seed: an interrupted experiment has whole seeds to compare. Variants come last."""
        own = [DesignedRun(B, lr, seed) for seed in range(self.num_seeds) for B, lr in self.configurations]
        varied = [
            DesignedRun(B, lr, seed, variant.name)
            for variant in self.variants
            for seed in range(self.num_seeds)
            for B, lr in self.configurations
            if set(self.arms_of(B, lr)) & set(variant.arms)
        ]
        return (*own, *varied)


@dataclass(frozen=True, slots=True)
class Queued:
    """Designed runs of a study.

    Attributes:
        new: Queued just now.
        total: That the design has.
    """

    new: int
    total: int


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
    return Queued(queue.queue_design(study, design.runs, further=design.further), len(design.runs))


def _among(lr: float, rates: tuple[float, ...]) -> bool:
    return any(abs(lr / rate - 1) < 1e-6 for rate in rates)
