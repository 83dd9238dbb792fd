"""The table of a batch-size experiment: what each run measured, by arm, batch size, learning rate and seed.

The arms:

    fixed_lr    every batch size at the reference learning rate
    scaled_lr   every batch size at the reference learning rate times B / B_smallest
    higher_lr   every batch size at one higher learning rate (8 times the reference in Chang & Pathak 2020)
    grid        every batch size at every learning rate

A run that belongs to two arms (the smallest batch size under `fixed_lr` and `scaled_lr`) is listed once for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bsopt.errors import ConfigError
from bsopt.experiment.findings.contrasts import Contrast, Group, TooFewSeedsError, contrast
from bsopt.laws.scaling import HIGHER_LR_FACTOR
from bsopt.units import count_of

__all__ = ["ARMS", "MEASUREMENTS", "REMEDIES", "Run", "Table", "UntestableError", "arms_of", "lr_of_arms"]

ARMS = ("fixed_lr", "scaled_lr", "higher_lr", "grid")

MEASUREMENTS: Mapping[str, str] = {
    "best_val_loss": "best validation loss",
    "epochs_to_train_loss": "epochs to a training loss, the same for every run (`measuring.Common`)",
    "seconds_per_epoch": "seconds per epoch",
    "epochs_to_best": "epochs to the best validation loss",
    "seconds_to_best": "seconds to the best validation loss",
    "distance_from_init": "distance of the best weights from the initial ones",
    "epoch_distance": "distance travelled in an epoch, the geometric mean over the epochs that all runs have",
    "epoch_distance_growth": "distance of a late epoch over that of an early one, of the epochs that all runs have",
    "update_norm": "median norm of an update",
    "sharpness": "Keskar's sharpness, in per cent of the loss and one",
    "sharpness_subspace": "Keskar's sharpness in a random subspace, in per cent of the loss and one",
    "adaptive_sharpness": "scale-free sharpness, the rise of the loss",
    "top_curvature": "largest curvature, the largest eigenvalue of the loss's Hessian",
    "line_rise": "range of the training loss around the minimizer, on the line between the two",
    "contour_rise": "mean rise of the training loss around the minimizer, in two random directions",
    "overfitting": "validation loss over training loss, after as many epochs as all runs have",
    "val_loss_at_train_loss": "validation loss where the training loss is the same, for every run",
    "samples_per_second": "training samples per second",
    "peak_memory": "peak memory, of one rank",
}
"""What a run is asked for: name in `Run.measurements` -> what it means."""

_LOG_IT = 'log one in training_step, self.log("train_loss", loss, on_step=False, on_epoch=True)'
_EXAMINE_IT = (
    "`bsopt study analyze` examines the weights that runs kept, with a matched_loss those where their logged training "
    "loss came down to it"
)
REMEDIES: Mapping[str, str] = {
    "epochs_to_train_loss": f"there is no training loss that the runs share; {_LOG_IT}",
    "val_loss_at_train_loss": f"there is no training loss that the runs share; {_LOG_IT}",
    "overfitting": f"there is no training loss; {_LOG_IT}",
    **dict.fromkeys(
        ("sharpness", "sharpness_subspace", "adaptive_sharpness", "top_curvature"),
        f"there is no sharpness; {_EXAMINE_IT}",
    ),
    **dict.fromkeys(("line_rise", "contour_rise"), "no minimizers were examined; `bsopt study analyze` does that"),
}
"""What is lacking where no run has a measurement, and what to do."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training run of the experiment.

    Attributes:
        batch_size: Global batch size, samples.
        lr: Learning rate.
        arm: One of `ARMS`.
        seed: Of the initial weights; equal seeds are compared with each other.
        measurements: Name (of `MEASUREMENTS`, or one's own) -> value. A value that isn't a finite, positive number
            counts as not measured.
        look: How often the experiment had been judged before this run was asked for, to settle what couldn't be told.
    """

    batch_size: int
    lr: float
    arm: str
    seed: int
    measurements: Mapping[str, float]
    look: int = 0


def arms_of(
    batch_size: int,
    lr: float,
    *,
    smallest_batch_size: int,
    reference_lr: float,
    higher_lr: float | None = None,
) -> tuple[str, ...]:
    """Return the arms that a configuration of a grid belongs to, the grid among them: train once, list for each.

    Args:
        batch_size: Of the configuration.
        lr: Of the configuration; learning rates within a millionth of each other are the same.
        smallest_batch_size: Of the experiment, where `reference_lr` belongs.
        reference_lr: Of the arm `fixed_lr`, and what `scaled_lr` scales.
        higher_lr: Of that arm; 8 times the reference, as in the article, where it is None.

    >>> arms_of(256, 0.08, smallest_batch_size=32, reference_lr=0.01)
    ('grid', 'scaled_lr', 'higher_lr')
    """
    rates = lr_of_arms(
        batch_size, smallest_batch_size=smallest_batch_size, reference_lr=reference_lr, higher_lr=higher_lr
    )
    return ("grid", *(arm for arm, rate in rates.items() if math.isclose(lr, rate, rel_tol=1e-6)))


def lr_of_arms(
    batch_size: int, *, smallest_batch_size: int, reference_lr: float, higher_lr: float | None = None
) -> dict[str, float]:
    """Return the learning rate at a batch size of each arm that has one there, the arguments as for `arms_of`.

    >>> lr_of_arms(64, smallest_batch_size=32, reference_lr=0.01)
    {'fixed_lr': 0.01, 'scaled_lr': 0.02, 'higher_lr': 0.08}
    """
    return {
        "fixed_lr": reference_lr,
        "scaled_lr": reference_lr * batch_size / smallest_batch_size,
        "higher_lr": HIGHER_LR_FACTOR * reference_lr if higher_lr is None else higher_lr,
    }


class UntestableError(ConfigError):
    """The table doesn't hold what a comparison needs; the message says what."""


class Table:
    """Runs, grouped as comparisons need them."""

    def __init__(self, runs: Sequence[Run], *, min_seeds: int) -> None:
        """Index the runs.

        Raises:
            ConfigError: Two runs of one arm share batch size, learning rate and seed; or an arm other than the
                grid has two learning rates at one batch size.
        """
        self.min_seeds = min_seeds
        seen: set[tuple[str, int, float, int]] = set()
        self._arms: dict[str, list[Run]] = {}
        for run in sorted(runs, key=lambda run: run.batch_size):
            key = (run.arm, run.batch_size, run.lr, run.seed)
            if key in seen:
                raise ConfigError(f"two runs of arm {run.arm!r} at {run.batch_size}, lr {run.lr:g}, seed {run.seed}.")
            seen.add(key)
            self._arms.setdefault(run.arm, []).append(run)
        rates: dict[tuple[str, int], set[float]] = {}
        for arm, batch_size, lr, _ in seen:
            rates.setdefault((arm, batch_size), set()).add(lr)
        for (arm, batch_size), found in rates.items():
            if arm != "grid" and len(found) > 1:
                raise ConfigError(f"arm {arm!r} has several learning rates at {batch_size}: {sorted(found)}.")

    def groups(self, arm: str, measurement: str) -> dict[int, dict[int, float]]:
        """Return batch size -> seed -> value, batch sizes ascending, of one arm.

        Raises:
            UntestableError: Fewer than two batch sizes were measured.
        """
        found: dict[int, dict[int, float]] = {}
        for run in self._arms.get(arm, []):
            value = run.measurements.get(measurement, math.nan)
            if math.isfinite(value) and value > 0:
                found.setdefault(run.batch_size, {})[run.seed] = value
        if len(found) < 2:
            raise UntestableError(self._lacking(arm, measurement, len(found)))
        return found

    def contrast(
        self, measurement: str, groups: Sequence[Group], coefficients: Sequence[float], *, resolution: float = 0.0
    ) -> Contrast:
        """Return `contrasts.contrast` of groups of a measurement.

        Raises:
            TooFewSeedsError: A group has fewer runs than a test needs; the message names the measurement.
        """
        try:
            return contrast(groups, coefficients, min_seeds=self.min_seeds, resolution=resolution)
        except TooFewSeedsError as error:
            raise TooFewSeedsError(f"{_words(measurement)}: {error}") from error

    def has(self, measurement: str) -> bool:
        """Whether some run measured it."""
        return any(measurement in run.measurements for runs in self._arms.values() for run in runs)

    def num_looks(self, places: Iterable[tuple[str, int]]) -> int:
        """Return how often the runs at some (arm, batch size) have been judged, this time included.

        Where the places have enough seeds in common, those count alone: seeds that another finding asked for at one of
        them are no new look.
        """
        groups = [[r for r in self._arms.get(arm, []) if r.batch_size == size] for arm, size in dict.fromkeys(places)]
        common = set.intersection(*({run.seed for run in group} for group in groups)) if groups else set()
        is_paired = len(common) >= self.min_seeds
        looks = (run.look for group in groups for run in group if not is_paired or run.seed in common)
        return 1 + max(looks, default=0)

    def best_lr(self) -> tuple[dict[int, dict[int, float]], float]:
        """Return batch size -> seed -> log2 of the best learning rate on the grid, and the grid's step in octaves.

        Raises:
            UntestableError: No grid of two batch sizes and two learning rates.
        """
        best: dict[int, dict[int, tuple[float, float]]] = {}
        grid = self._arms.get("grid", [])
        rates = sorted({run.lr for run in grid})
        for run in grid:
            loss = run.measurements.get("best_val_loss", math.nan)
            if math.isfinite(loss):
                seeds = best.setdefault(run.batch_size, {})
                seeds[run.seed] = min(seeds.get(run.seed, (math.inf, 0.0)), (loss, math.log2(run.lr)))
        if len(best) < 2 or len(rates) < 2:
            raise UntestableError("a grid of at least two batch sizes and two learning rates is needed")
        step = float(np.mean(np.diff(np.log2(rates))))
        return {B: {seed: log_lr for seed, (_, log_lr) in seeds.items()} for B, seeds in best.items()}, step

    def _lacking(self, arm: str, measurement: str, num_sizes: int) -> str:
        """Return why a measurement can't be compared within an arm, and what to do where that is known."""
        if arm not in self._arms:
            return f"there are no runs of the arm {arm!r}"
        if measurement in REMEDIES and not self.has(measurement):
            return REMEDIES[measurement]
        return f"arm {arm!r} has {_words(measurement)} at {count_of(num_sizes, 'batch size')}, two are needed"


def _words(measurement: str) -> str:
    return MEASUREMENTS.get(measurement, measurement).partition(",")[0]
