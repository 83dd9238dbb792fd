"""One fit of a study: its space, its history, and what the surrogate makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bsopt.laws.lattice import Lattice
from bsopt.laws.response_surface import Observations, ResponseSurface, fit
from bsopt.laws.stability import Ending
from bsopt.laws.surface_prior import ANSWER_NOISE, PROPOSAL_NOISE, Coordinates, Prior, RidgePrior
from bsopt.laws.value_surface import ValueSurface, noise_near_best
from bsopt.search.endings import Endings, ending_of, endings_of
from bsopt.search.feasibility import Feasibility
from bsopt.search.history import History, history_of
from bsopt.search.learning_curves import means_of_reports, predicted_finals, what_is_reported
from bsopt.search.space import Space

__all__ = ["ANSWER_SEED", "Edge", "Model", "Prediction", "Settings", "edges_of"]

Array: TypeAlias = NDArray[np.float64]

ANSWER_SEED = 0
"""Of fits that are shown to people: whoever asks gets the same answer."""

EDGE_SHARE = 0.03
"""A best point within this share of a range of its end lies at the edge."""

LEAST_FOR_EDGE = 6
"""Finished trials before an edge is spoken of: early on the best is anywhere."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a sampler was told, as far as fits depend on it."""

    ridge: RidgePrior
    lattice: Lattice
    batch_size: str
    lr: str
    seed: int


@dataclass(frozen=True, slots=True)
class Edge:
    """The best trial sits at an end of a searched range; further out may be better.

    Attributes:
        low, high: The wider range to search instead.
        message: The same in a sentence.
    """

    parameter: str
    end: Literal["low", "high"]
    low: float
    high: float
    message: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The final value to expect at a point, from finished trials alone.

    Attributes:
        mean, sd: In squashed, standardised units; smaller is better whatever the study's direction. The standard
            deviation is of the noiseless value.
        noise: Standard deviation of one run from that value, in these units.
        best: The best value told so far, in these units.
        noise_sd: Standard deviation of a repeated trial's value near the best, in the study's own unit.
        transform: From the study's values to these units; monotone.
    """

    mean: float
    sd: float
    noise: float
    best: float
    noise_sd: float
    transform: Callable[[ArrayLike], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Model:
    """One fit; `feasibility` is None where no constraint was ever violated."""

    space: Space
    prior: Prior
    history: History
    posterior: ResponseSurface
    feasibility: Feasibility | None
    endings: Endings

    @cached_property
    def noise_sd(self) -> float:
        """Standard deviation of a repeated trial's value near the best, in the study's own unit."""
        return noise_near_best(self.posterior, self.history.transform)

    @property
    def values(self) -> ValueSurface:
        """What is believed of the study's values; further parameters are held as in the best trial."""
        history, space = self.history, self.space
        size, rate = space.index("batch_size"), space.index("lr")
        assert size is not None
        assert rate is not None
        middle = np.array([(column.low + column.high) / 2 for column in space.columns])
        best = history.rows[history.y.argmin()] if len(history.y) else space.snap(middle[None])[0]

        def place(b: Array, l: Array) -> Coordinates:  # noqa: E741
            at = np.repeat(best[None], len(b), axis=0)
            at[:, size], at[:, rate] = b, l
            return space.coordinates(at)

        b, l = history.rows[:, size], history.rows[:, rate]  # noqa: E741
        return ValueSurface(self.posterior, history.transform, place, b, l, history.num_finished)

    @classmethod
    def of(
        cls,
        study: Study,
        trials: Sequence[FrozenTrial],
        distributions: Mapping[str, BaseDistribution],
        *,
        settings: Settings,
        weights: Array | None = None,
        is_thorough: bool = False,
    ) -> Model:
        """Return the fit to finished trials over the given parameters.

        Args:
            study: For its directions.
            trials: Which of its trials to learn from.
            distributions: The parameters and their ranges.
            settings: The sampler's.
            weights: Of the objectives, where there are several.
            is_thorough: Whether the fit is for an answer, and may take longer.
        """
        space = Space.of(distributions, batch_size=settings.batch_size, lr=settings.lr, lattice=settings.lattice)
        predicted: dict[int, tuple[float, float]] = {}
        pruned = {t.number for t in trials if t.state == TrialState.PRUNED and t.intermediate_values}
        if pruned and weights is None:
            finals = predicted_finals(study, trials, batch_size=settings.batch_size, lr=settings.lr)
            known = {number: (final.mean, final.sd) for number, final in finals.items() if number in pruned}
            predicted = {**_middling(study, trials, pruned), **known}
            if len(study.directions) == 1 and what_is_reported(study, trials) == "parts":
                predicted |= means_of_reports([t for t in trials if t.number in predicted])
        endings = endings_of(trials, space, names=(settings.batch_size, settings.lr))
        if weights is None:
            predicted |= _bad(study, trials, endings.diverged)  # whatever their curves were like before
        history = history_of(study, trials, space, predicted=predicted, weights=weights)
        prior = Prior(settings.ridge, space.domain, ANSWER_NOISE if is_thorough else PROPOSAL_NOISE)
        data = Observations(space.coordinates(history.rows), history.y, history.sd, history.gap)
        posterior = fit(prior, data, seed=(settings.seed, history.num_finished), is_thorough=is_thorough)
        labelled = history.labelled
        feasibility = Feasibility.of(space.unit(labelled), history.labels) if len(labelled) else None
        return cls(space, prior, history, posterior, feasibility, endings)


def _middling(study: Study, trials: Sequence[FrozenTrial], numbers: Set[int]) -> dict[int, tuple[float, float]]:
    """Return a value with its error for pruned trials whose reports don't tell where they would have ended.

    A pruner ends what it takes for the worse half, so they count as something worse than the median of the finished
    trials, give or take the spread of those.
    """
    quantiles = _quantiles(study, trials, (0.0, 0.5, 0.75))
    if quantiles is None:
        return {}
    best, median, worse = quantiles
    ended = [t.number for t in trials if t.number in numbers and ending_of(t) is Ending.RAN]
    return dict.fromkeys(ended, (worse, max(abs(median - best), 1e-12)))


def _bad(study: Study, trials: Sequence[FrozenTrial], diverged: Mapping[int, float]) -> dict[int, tuple[float, float]]:
    """Return a value with its error for trials that diverged: their learning rate is far beyond the best one's.

    The valley of values is as wide as the stable learning rates are, so a diverged trial counts as one at its rim.
    """
    ends = _quantiles(study, trials, (0.0, 1.0))
    if ends is None:
        return {}
    best, worst = ends
    spread = max(abs(worst - best), 1e-12)
    return {number: (worst, spread / share) for number, share in diverged.items() if share > 0.5}


def _quantiles(study: Study, trials: Sequence[FrozenTrial], levels: Sequence[float]) -> list[float] | None:
    """Return quantiles of the finite values told, 0 the best and 1 the worst; None where there is none."""
    told = np.array([t.values[0] for t in trials if t.state == TrialState.COMPLETE and t.values], dtype=float)
    finite = told[np.isfinite(told)]
    if not len(finite):
        return None
    is_maximized = study.directions[0] == StudyDirection.MAXIMIZE
    return [float(np.quantile(finite, 1.0 - level if is_maximized else level)) for level in levels]


def edges_of(model: Model) -> tuple[Edge, ...]:
    """Return the ends of the batch size and learning-rate ranges at which the best trial sits."""
    history, space = model.history, model.space
    if history.num_finished < LEAST_FOR_EDGE or not history.is_feasible.any():
        return ()
    best = history.rows[np.argmin(np.where(history.is_feasible, history.y, np.inf))]
    edges: list[Edge] = []
    for i, column in enumerate(space.columns):
        if column.role not in ("batch_size", "lr") or column.high - column.low < 1e-9:
            continue
        reach = 2.0 if column.role == "batch_size" else 3.0  # octaves further
        low, high, margin = column.low, column.high, EDGE_SHARE * (column.high - column.low)
        if best[i] <= low + margin:
            wider = low - reach
            if column.role == "batch_size":
                wider = float(np.log2(max(round(2.0**wider), 1)))
            if wider < low:
                edges.append(_edge(column.name, "low", column.value_at(wider), column.value_at(high)))
        elif best[i] >= high - margin:
            edges.append(_edge(column.name, "high", column.value_at(low), column.value_at(high + reach)))
    return tuple(edges)


def _edge(name: str, end: Literal["low", "high"], low: float, high: float) -> Edge:
    where = "lowest" if end == "low" else "highest"
    message = (
        f"The best trial has nearly the {where} {name} of the range; better ones may lie beyond. "
        f"Consider searching {name} from {low:.4g} to {high:.4g}."
    )
    return Edge(name, end, low, high, message)
