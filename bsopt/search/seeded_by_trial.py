"""A sampler of Optuna's with a seed of its own for every trial, so that no two workers or runs propose the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

__all__ = ["SeededByTrial"]


class SeededByTrial(BaseSampler):
    """Lets a fresh sampler propose each trial, seeded with the study's seed and the trial's number.

    Optuna's samplers draw from one generator that begins with the seed: a second worker, host or run of the study with
    the same seed would propose the first one's trials again. As with ours, the same seed and trials give the same
    proposals, whoever asks.

    Args:
        make: Makes a sampler from a seed of 32 bits.
        seed: The study's, at least 0.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._samplers: dict[int, BaseSampler] = {}

    def sampler_of(self, number: int) -> BaseSampler:
        """Return the sampler that proposes a trial, by the trial's number."""
        made = self._samplers.get(number)
        if made is None:
            seed = np.random.SeedSequence([self._seed, number]).generate_state(1)[0]
            made = self._samplers[number] = self._make(int(seed))
        return made

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are proposed together, as the trial's sampler says."""
        return self.sampler_of(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose these parameters."""
        return self.sampler_of(trial.number).sample_relative(study, trial, dict(search_space))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Propose one of the others."""
        return self.sampler_of(trial.number).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Tell the trial's sampler that it begins."""
        self.sampler_of(trial.number).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell the trial's sampler how it ended, and let go of it."""
        self.sampler_of(trial.number).after_trial(study, trial, state, values)
        del self._samplers[trial.number]
