"""Small studies with curves, for tests of the pruner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from bsopt.search.pruner import PlateauPruner

NAN, INF = float("nan"), float("inf")
SPACE = {"batch_size": IntDistribution(8, 1024, log=True), "lr": FloatDistribution(1e-4, 1.0, log=True)}
STEPS = range(1, 21)
FLAT = [1.0, 0.5, 0.34, 0.33, 0.33, 0.33, 0.33]


def curve(final: float, *, exponent: float = 0.3) -> list[float]:
    return [final * (step / 20.0) ** -exponent for step in STEPS]


def trial_of(
    values: Sequence[float],
    *,
    state: TrialState = TrialState.COMPLETE,
    value: float | None = None,
    steps: Sequence[int] = STEPS,
    number: int | None = None,
    batch_size: int = 32,
    lr: float = 0.01,
    **attributes: object,
) -> FrozenTrial:
    trial = optuna.trial.create_trial(
        state=state,
        value=(values[-1] if value is None else value) if state == TrialState.COMPLETE else None,
        params={"batch_size": batch_size, "lr": lr},
        distributions=SPACE,
        intermediate_values=dict(zip(steps, values, strict=False)),
        user_attrs=attributes,
    )
    if number is not None:
        trial.number = number
    return trial


def running(values: Sequence[float], *, number: int = 1000, **kwargs) -> FrozenTrial:
    return trial_of(values, state=TrialState.RUNNING, number=number, **kwargs)


def study_of(*trials: FrozenTrial, direction: str = "minimize", **kwargs) -> optuna.Study:
    sampler = kwargs.pop("sampler", optuna.samplers.RandomSampler(seed=0))
    study = optuna.create_study(direction=direction, sampler=sampler, **kwargs)
    study.add_trials(trials)
    return study


def three_finished(**kwargs) -> optuna.Study:
    return study_of(*(trial_of(curve(final)) for final in (0.35, 0.4, 0.5)), **kwargs)


def pruner(**kwargs) -> PlateauPruner:
    return PlateauPruner(**{"audit_every": 0, **kwargs})


class AlwaysPrunes(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return True


def flat_study(*, late: float = 1.0, **kwargs) -> optuna.Study:
    """Twelve finished curves that are flat from step 4 on, until a drop by a factor at step 15."""
    shapes = [[f * 3, f * 2, f * 1.1, *[f] * 11, *[f * late] * 6] for f in np.linspace(0.35, 0.57, 12)]
    return study_of(*(trial_of(values) for values in shapes), **kwargs)
