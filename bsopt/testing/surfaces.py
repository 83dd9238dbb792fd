"""Synthetic studies from known laws; the benchmark's contender.

Notation, for the noisy quadratic model (Zhang et al. 2019, arXiv 1907.04164, section 3):

    h_i     curvature of dimension i, 1/i
    c_i     gradient noise variance of one sample, = h_i times a scale
    η, m    learning rate, momentum; their effective learning rate is η/(1 − m)
    T       updates, samples/B
    E_t     expected squared distance from the optimum:  E_{t+1} = (1 − ηh)²·E_t + η²·c/B

Its loss ½·Σ h_i·E_T has what real surfaces have, and none of the sampler's assumptions: a ridge that rises and
saturates with the batch size, a slow side, a diverging side, and an optimum that follows from the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from bsopt.errors import ConfigError, nearest
from bsopt.recommendation.recommender import recommend
from bsopt.search.pruner import PlateauPruner
from bsopt.search.sampler import ScalingSampler

__all__ = ["FAMILIES", "HAZARDS", "Replay", "Surface", "contender", "noisy_quadratic", "replay", "synthetic"]

Params = Mapping[str, Any]

HAZARDS = ("none", "diverge", "memory")
"""What may happen to trials of a `replay`."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Final values over a search space, with the best known.

    Attributes:
        optimizer: "sgd" or "adam", all that a sampler is told.
        batch_size, lr: Ranges to search, batch sizes in samples.
        value: From a trial's parameters to its final value, smaller is better.
        best, median: The best value over powers of two and the median over the ranges, the unit of regret.
        best_params: Where the best value is.
        has_further: Whether weight decay, momentum and a categorical are searched too.
    """

    name: str
    optimizer: str
    batch_size: tuple[int, int]
    lr: tuple[float, float]
    value: Callable[[Params], float]
    best: float
    median: float
    best_params: Params
    has_further: bool = False

    def regret(self, value: float) -> float:
        """Return (value − best)/(median − best)."""
        return (value - self.best) / (self.median - self.best)

    def suggest(self, trial: optuna.Trial, *, lr: tuple[float, float] | None = None) -> dict[str, Any]:
        """Return a trial's parameters from the surface's ranges, or from a part of its learning rates."""
        trial.suggest_int("batch_size", *self.batch_size, log=True)
        trial.suggest_float("lr", *(lr or self.lr), log=True)
        if self.has_further:
            trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
            trial.suggest_float("momentum", 0.5, 0.98)
            trial.suggest_categorical("activation", ["relu", "gelu", "tanh"])
        return dict(trial.params)

    def narrowed(self, seed: int) -> tuple[float, float]:
        """Return a random part of the learning rates, at least 60 % of its octaves, with the best inside.

        So that the middle of the range says little.
        """
        rng = np.random.default_rng([seed, *self.name.encode()])
        low, high = (float(v) for v in np.log2(self.lr))
        best = float(np.log2(self.best_params["lr"]))
        width = (high - low) * rng.uniform(0.6, 1.0)
        start = rng.uniform(max(low, best - width), min(high - width, best))
        return float(2**start), float(2 ** (start + width))

    def diverges(self, params: Params) -> bool:
        """Whether a learning rate lies more than two octaves above the best one of its batch size."""
        rates = np.geomspace(*self.lr, 100)
        values = [self.value({**params, "lr": float(rate)}) for rate in rates]
        return bool(params["lr"] > 4.0 * rates[int(np.argmin(values))])

    def memory_limit(self, seed: int) -> int:
        """Return a random batch size of the upper half of the range, in samples, not the largest."""
        low, high = (int(v) for v in np.log2(self.batch_size))
        rng = np.random.default_rng([3, seed, *self.name.encode()])
        return int(2 ** rng.integers((low + high) // 2, high))

    def up_to(self, limit: int) -> Surface:
        """Return the surface whose best is that of the batch sizes up to a limit."""
        if limit >= self.best_params["batch_size"]:
            return self
        sizes = [2**k for k in range(20) if self.batch_size[0] <= 2**k <= limit]
        points = [
            {**self.best_params, "batch_size": b, "lr": float(r)} for b in sizes for r in np.geomspace(*self.lr, 300)
        ]
        values = [self.value(point) for point in points]
        best = int(np.argmin(values))
        return replace(self, best=float(values[best]), best_params=points[best])


def contender(
    optimizer: str, seed: int, horizon: int | None = None
) -> tuple[BaseSampler, BasePruner | None, Callable[[optuna.Study], tuple[int, float]]]:
    """Return bsopt's sampler, pruner and recommendation as a user gets them who knows the optimizer's name only.

    Args:
        optimizer: "sgd" or "adam".
        seed: The sampler's.
        horizon: The last step that a trial can report; None for trials that always run to the end.

    Returns:
        Sampler, pruner (None without a horizon), and from a study to the batch size and learning rate to train with.
    """
    sampler = ScalingSampler(optimizer=optimizer, seed=seed)

    def recommended(study: optuna.Study) -> tuple[int, float]:
        choice = recommend(study).choice
        if choice is None:
            return int(study.best_params["batch_size"]), float(study.best_params["lr"])
        return choice.batch_size, choice.lr.value

    return sampler, None if horizon is None else PlateauPruner(), recommended


def noisy_quadratic(
    batch_size: float, lr: float, *, num_samples: float, noise: float = 1.0, num_dimensions: int = 300
) -> float:
    """Return the expected loss of SGD on the noisy quadratic model after a budget of samples.

    Args:
        batch_size: Samples per update.
        lr: Learning rate without momentum (divide by 1 − momentum).
        num_samples: Budget.
        noise: Scale of the gradient noise.
        num_dimensions: Of the quadratic; the start is at distance 1 in each.

    >>> round(noisy_quadratic(1, 0.0, num_samples=100, num_dimensions=1), 3)
    0.5
    """
    h = 1.0 / np.arange(1, num_dimensions + 1)
    contraction = (1.0 - lr * h) ** 2
    updates = num_samples / batch_size
    with np.errstate(over="ignore", invalid="ignore"):
        left = np.exp(np.minimum(updates * np.log(np.maximum(contraction, 1e-300)), 60.0))
        gained = np.where(np.abs(1 - contraction) < 1e-12, updates, (1 - left) / (1 - contraction))
        loss = 0.5 * float(np.sum(h * (left + gained * lr**2 * noise * h / batch_size)))
    return min(loss, 1e6)


def synthetic(family: str, seed: int) -> Surface:
    """Return one surface of a family.

    - `quadratic`: the noisy quadratic model with SGD, its budget and noise drawn.
    - `basin`: a skewed valley along a saturating ridge, quadratic along the batch size, a cliff above.
    - `further`: a basin with weight decay, momentum and an activation to choose, which matter too.

    Raises:
        ConfigError: There is no such family.
    """
    if family not in FAMILIES:
        raise ConfigError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}." + nearest(family, FAMILIES))
    return FAMILIES[family](seed)


@dataclass(frozen=True, slots=True)
class Replay:
    """One study on a surface.

    Attributes:
        regrets: (num_trials,) true regret of the trial that looks best, after each trial; 9 before any has a value.
        told: True regret of what a user would train with, after half and after all of the trials: bsopt's lowest
            value to expect, of other samplers the trial that looks best.
    """

    regrets: NDArray[np.float64]
    told: tuple[float, float]


def replay(
    sampler: BaseSampler,
    surface: Surface,
    *,
    seed: int,
    num_trials: int,
    noise: float = 0.0,
    workers: int = 1,
    pruner: BasePruner | None = None,
    hazard: str = "none",
    first: Params | None = None,
) -> Replay:
    """Run one study on a surface, without training anything.

    Args:
        sampler: Of the study.
        surface: What is searched, over a part of its learning rates.
        seed: Chooses that part, the noise and the memory limit.
        num_trials: In all.
        noise: Standard deviation of what is told, in units of (median − best).
        workers: How many trials are asked for before the first of them is told.
        pruner: Of the study; none where None.
        hazard: One of `HAZARDS`. "diverge": learning rates more than two octaves above the best one of their batch
            size report NaN and are pruned. "memory": batch sizes above a limit in the upper half of the range fail
            before the learning rate is suggested; the best is that of the rest.
        first: What is tried before the sampler is asked.

    Raises:
        ConfigError: There is no such hazard.
    """
    if hazard not in HAZARDS:
        raise ConfigError(f"hazard must be one of {', '.join(HAZARDS)}, got {hazard!r}." + nearest(hazard, HAZARDS))
    rates = surface.narrowed(seed)
    limit = surface.memory_limit(seed) if hazard == "memory" else surface.batch_size[1]
    surface = surface.up_to(limit)
    study = optuna.create_study(sampler=sampler, pruner=pruner or optuna.pruners.NopPruner())
    if first is not None:
        study.enqueue_trial(dict(first))
    rng = np.random.default_rng([7, seed, *surface.name.encode()])
    running: list[tuple[optuna.Trial, float | None]] = []
    best_seen, best_true = np.inf, np.inf
    regrets: list[float] = []
    told: list[float] = []

    def tell_first() -> None:
        nonlocal best_seen, best_true
        trial, true = running.pop(0)
        seen = np.inf
        if true is None:
            study.tell(trial, state=TrialState.FAIL)
        elif math.isnan(true):
            trial.report(math.nan, 1)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            seen = true + noise * (surface.median - surface.best) * float(rng.standard_normal())
            study.tell(trial, seen)
        if true is not None and seen < best_seen:
            best_seen, best_true = seen, true
        regrets.append(min(surface.regret(best_true), 9.0))
        if len(regrets) in (max(num_trials // 2, 1), num_trials):
            choice = recommend(study).choice if isinstance(sampler, ScalingSampler) and np.isfinite(best_seen) else None
            point = study.best_params | {"batch_size": choice.batch_size, "lr": choice.lr.value} if choice else None
            told.append(regrets[-1] if point is None else min(surface.regret(surface.value(point)), 9.0))

    for _ in range(num_trials):
        trial = study.ask()
        is_too_large = hazard == "memory" and trial.suggest_int("batch_size", *surface.batch_size, log=True) > limit
        params = None if is_too_large else surface.suggest(trial, lr=rates)
        is_lost = params is not None and hazard == "diverge" and surface.diverges(params)
        running.append((trial, None if params is None else math.nan if is_lost else surface.value(params)))
        if len(running) >= min(workers, num_trials - len(regrets)):
            tell_first()
    while running:
        tell_first()
    return Replay(np.array(regrets), (told[0], told[-1]))


def _quadratic(seed: int) -> Surface:
    rng = np.random.default_rng([1, seed])
    num_samples, noise = 10.0 ** rng.uniform(4.5, 6.5), 10.0 ** rng.uniform(-0.5, 1.0)

    def value(params: Params) -> float:
        lr = 10.0 * params["lr"]  # the model knows no momentum; 0.9 is what a user's lr comes with
        return float(np.log(noisy_quadratic(params["batch_size"], lr, num_samples=num_samples, noise=noise)))

    return _known(f"quadratic/{seed}", "sgd", (8, 2048), (1e-5, 1.0), value)


def _basin(seed: int) -> Surface:
    rng = np.random.default_rng([2, seed])
    optimizer = "sgd" if seed % 2 else "adam"
    usual = -5.5 if optimizer == "sgd" else -10.0
    law = _Basin(
        height=usual + 2.0 * rng.standard_normal(),
        exponent=float(rng.uniform(0.2, 1.0)),
        knee=float(rng.uniform(6, 12)),
        b_best=float(rng.uniform(3, 11)),
        slow=float(rng.uniform(0.01, 0.06)),
        cliff=float(rng.uniform(1.0, 4.0)),
        bend=float(rng.uniform(0.002, 0.02)),
    )
    return _known(f"basin/{seed}", optimizer, (8, 2048), (2.0**-16, 1.0), law)


def _further(seed: int) -> Surface:
    basin = _basin(seed)
    rng = np.random.default_rng([3, seed])
    decay, best_choice = float(rng.uniform(-22, -14)), ("relu", "gelu", "tanh")[int(rng.integers(3))]

    def value(params: Params) -> float:
        effective = params["lr"] * 0.1 / (1.0 - params["momentum"])
        plain = basin.value({**params, "lr": effective})
        off = np.log2(params["lr"] * params["weight_decay"]) - decay
        return float(plain + 0.004 * off**2 + (0.0 if params["activation"] == best_choice else 0.05))

    at = dict(basin.best_params)
    lr = at["lr"]
    at |= {"momentum": 0.9, "weight_decay": 2.0**decay / lr, "activation": best_choice}
    rows = _random_params(basin, np.random.default_rng([4, seed]))
    median = float(np.median([value(row) for row in rows]))
    return Surface(
        f"further/{seed}", basin.optimizer, basin.batch_size, basin.lr, value, basin.best, median, at, has_further=True
    )


@dataclass(frozen=True, slots=True)
class _Basin:
    """A valley along lr*(B): parabola below it in octaves, a softened cliff above it."""

    height: float
    exponent: float
    knee: float
    b_best: float
    slow: float
    cliff: float
    bend: float

    def __call__(self, params: Params) -> float:
        b = float(np.log2(params["batch_size"]))
        ridge = self.height + self.exponent * (np.logaddexp2(0, self.knee - 5) - np.logaddexp2(0, self.knee - b))
        u = float(np.log2(params["lr"])) - ridge
        wall = float(np.logaddexp(0.0, 3.0 * (u - self.cliff))) - float(np.logaddexp(0.0, -3.0 * self.cliff))
        return float(2.0 + self.slow * u * u + self.bend * (b - self.b_best) ** 2 + min(max(wall, 0.0), 5.0))


def _known(
    name: str,
    optimizer: str,
    batch_size: tuple[int, int],
    lr: tuple[float, float],
    value: Callable[[Params], float],
) -> Surface:
    """Return the surface of a function, its best found over powers of two and 300 learning rates."""
    sizes = [2**k for k in range(20) if batch_size[0] <= 2**k <= batch_size[1]]
    points = [{"batch_size": size, "lr": float(rate)} for size in sizes for rate in np.geomspace(*lr, 300)]
    values = np.array([value(point) for point in points])
    best = int(values.argmin())
    return Surface(name, optimizer, batch_size, lr, value, float(values[best]), float(np.median(values)), points[best])


def _random_params(surface: Surface, rng: np.random.Generator) -> list[dict[str, Any]]:
    low, high = np.log2(surface.lr)
    return [
        {
            "batch_size": int(2 ** rng.uniform(*np.log2(surface.batch_size))),
            "lr": float(2 ** rng.uniform(low, high)),
            "weight_decay": float(10 ** rng.uniform(-6, -2)),
            "momentum": float(rng.uniform(0.5, 0.98)),
            "activation": ("relu", "gelu", "tanh")[int(rng.integers(3))],
        }
        for _ in range(400)
    ]


FAMILIES: Mapping[str, Callable[[int], Surface]] = {"quadratic": _quadratic, "basin": _basin, "further": _further}
