"""The sampler for batch size and learning rate."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from bsopt.errors import ConfigError, nearest
from bsopt.laws.lattice import Lattice, check_lattice
from bsopt.laws.response_surface import ResponseSurface
from bsopt.laws.scaling import RULES, Reference, Rule, check_optimizer, default_reference
from bsopt.laws.surface_prior import RidgePrior, ridge_prior
from bsopt.laws.value_surface import noise_at
from bsopt.search.acquisition import log_improvement
from bsopt.search.arguments import as_call, check_names, reference_of
from bsopt.search.candidates import best_row
from bsopt.search.explain import Explanation, Proposal, explain_model, explain_proposal, known_before, last_proposed
from bsopt.search.history import finished_key, joint_space
from bsopt.search.model import ANSWER_SEED, Model, Prediction, Settings, edges_of
from bsopt.search.space import Space
from bsopt.storage.attributes import enqueued_params
from bsopt.storage.parameter_names import note_names, unreadable
from bsopt.units import in_words

__all__ = ["ScalingSampler"]

Array: TypeAlias = NDArray[np.float64]

_logger = logging.getLogger(__name__)

MOST_PENDING = 64
"""How many running trials count as tried already."""

PRIOR_WEIGHT = 3.0
"""β, the weight of the learning-rate prior: a compromise between what suits a fair and a wrong reference."""

LEAST_FOR_BELIEF = 3


class ScalingSampler(BaseSampler):
    """Proposes the batch size and the learning rate of the next trial, and any other parameters that are searched.

    Its model is a Gaussian process around a basin. The basin's axis is the ridge lr*(B): at first a learning-rate
    scaling rule through a reference, then what the trials teach. The docstring of `bsopt.search` lists the modules in
    reading order. Any Optuna study can use it, and the same seed and trials give the same proposals.

    Args:
        optimizer: Its name, one of `bsopt.laws.scaling.OPTIMIZERS` or a longer one with it ("FusedAdam"); chooses
            the reference and the rule's exponent where they are not given.
        rule: One of `bsopt.laws.scaling.RULES` or a function from k = B/B0 to the factor on the learning rate.
        reference: A known-good or default point, a `Reference` or (batch_size, lr), at momentum 0.9 for SGD.
        lattice: Which batch sizes are proposed: "pow2", "any" or {"multiple_of": n}.
        batch_size: The batch size parameter's name.
        lr: The learning rate parameter's name.
        seed: Any integer of at least 0; a fresh one where None.
        prior_from: An earlier study with the same parameter names, or what `explain` said of it: its fitted ridge
            takes the place of the rule and the reference.
        num_steps: Updates of one full training at the reference's batch size. It moves a default reference: the best
            learning rate falls with the length of training.
        decays_to_end: Whether the learning rate decays until the last step, where it is known.
        cost: A function from parameters to their relative cost. With it the sampler maximises the improvement per cost.
        cost_budget: Total cost to spend, in the units of `cost`; the less of it is left, the less the cost counts.

    Raises:
        ConfigError: A wrong optimizer, rule, reference, lattice, name, seed, number of steps or budget.
    """

    def __init__(
        self,
        *,
        optimizer: str = "sgd",
        rule: Rule | None = None,
        reference: Reference | tuple[int, float] | None = None,
        lattice: Lattice = "pow2",
        batch_size: str = "batch_size",
        lr: str = "lr",
        seed: int | None = None,
        prior_from: Study | Explanation | None = None,
        num_steps: float | None = None,
        decays_to_end: bool | None = None,
        cost: Callable[[Mapping[str, Any]], float] | None = None,
        cost_budget: float | None = None,
    ) -> None:
        if isinstance(rule, str) and rule not in RULES:
            raise ConfigError(
                f"unknown scaling rule {rule!r}; allowed are {', '.join(RULES)} or a function." + nearest(rule, RULES)
            )
        if seed is not None and seed < 0:
            raise ConfigError(f"seed must be at least 0, got {seed}.")
        check_names(batch_size=batch_size, lr=lr)
        if rule is None or reference is None:
            check_optimizer(optimizer)
        if num_steps is not None and not num_steps > 0:
            raise ConfigError(f"num_steps must be above 0, got {num_steps}.")
        if reference is None:
            known = default_reference(optimizer, num_steps=num_steps, decays_to_end=decays_to_end)
        else:
            known = reference_of(reference)
        if cost_budget is not None and not cost_budget > 0:
            raise ConfigError(f"cost_budget must be above 0, got {cost_budget}.")
        drawn = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else int(seed)
        ridge = ridge_prior(optimizer, rule, known)
        self._settings = Settings(ridge, check_lattice(lattice), batch_size, lr, drawn)
        self._cost, self._cost_budget = cost, cost_budget
        self._arguments: dict[str, Any] = {
            "optimizer": optimizer,
            "rule": rule,
            "reference": reference,
            "lattice": lattice,
            "batch_size": batch_size,
            "lr": lr,
            "seed": drawn,
            "prior_from": None,
            "num_steps": num_steps,
            "decays_to_end": decays_to_end,
            "cost": cost,
            "cost_budget": cost_budget,
        }
        self._lock = threading.RLock()
        self._cached: tuple[tuple[object, ...], Model] | None = None
        self._proposed: OrderedDict[tuple[str, int], dict[str, Any]] = OrderedDict()
        self._warned: set[tuple[str, str, str]] = set()
        self._named: set[str] = set()
        if prior_from is not None:
            told = prior_from if isinstance(prior_from, Explanation) else self.explain(prior_from)
            self._arguments["prior_from"] = told  # not the study: a database can't be pickled
            self._settings = replace(self._settings, ridge=_ridge_of(told))

    def __repr__(self) -> str:
        return as_call(self, self._arguments)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Note in the study, once, what its two parameters are called, for `bsopt.recommend` and the figures."""
        if study.study_name not in self._named:
            self._named.add(study.study_name)
            note_names(study, batch_size=self._settings.batch_size, lr=self._settings.lr)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that every finished trial has, with their latest ranges."""
        trials = study.get_trials(deepcopy=False)
        self._warn_of_missing(study, trials)
        return joint_space(trials)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next point of a space that is known from earlier trials."""
        if not search_space:
            return {}
        fixed = enqueued_params(trial) or {}
        known = {name: value for name, value in fixed.items() if name in search_space}
        if len(known) == len(search_space):  # enqueued as a whole: nothing is left to choose
            return known
        return self._propose(study, trial, search_space, known)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return one parameter given those that the trial already has.

        Optuna asks so for every parameter of a study's first trial, and later for one whose range has just changed.
        The model chooses the batch size and the learning rate; the others get their usual value or a random one.
        """
        both = (self._settings.batch_size, self._settings.lr)
        if param_name not in both:
            self._warn_of_independent(study, param_name)
            return self._further(trial, param_name, param_distribution)
        known = {name: trial.params[name] for name in both if name in trial.params}
        distributions = {name: trial.distributions[name] for name in known} | {param_name: param_distribution}
        return self._propose(study, trial, distributions, known)[param_name]

    def predict(self, study: Study, params: Mapping[str, Any]) -> Prediction | None:
        """Return the final value to expect at a point, or None with fewer than three finished trials.

        The fit is kept until another trial finishes, so that asking again costs about a millisecond.
        """
        if len(study.directions) > 1:
            return None
        trials = study.get_trials(deepcopy=False)
        distributions = joint_space(trials)
        if not distributions or not distributions.keys() <= params.keys():
            return None
        with self._lock:
            model = self._fitted(study, trials, distributions, None)
        if len(model.history.y) < LEAST_FOR_BELIEF:
            return None
        mean, sd = model.posterior.moments(model.space.coordinates(model.space.encode([params])))
        belief, history = model.posterior, model.history
        return Prediction(
            mean=float(mean[0]),
            sd=float(sd[0]),
            noise=noise_at(belief, history.transform, float(mean[0])),
            best=history.best,
            noise_sd=model.noise_sd,
            transform=history.transform,
        )

    def explain(self, study: Study) -> Explanation:
        """Return what is believed now: the ridge, the basin, edges, and why the last trial was proposed.

        Works on any study that has the two parameters, also if another sampler proposed its trials.
        """
        trials = study.get_trials(deepcopy=False)
        distributions = joint_space(trials)
        middle = np.full(len(study.directions), 1.0 / len(study.directions))
        weights = None if len(study.directions) == 1 else middle
        told = replace(self._settings, seed=ANSWER_SEED)
        model = Model.of(study, trials, distributions, settings=told, weights=weights, is_thorough=True)
        last = last_proposed(study)
        proposal = self.why(study, last.number) if last is not None else None
        return explain_model(model, last=proposal)

    def why(self, study: Study, number: int) -> Proposal | None:
        """Return why a trial was proposed, from what was known when it started.

        None in multi-objective studies, and for a trial that lacks a parameter which all others have.
        """
        trials = study.get_trials(deepcopy=False)
        distributions, trial = joint_space(trials), trials[number]
        if len(study.directions) > 1 or not distributions or not distributions.keys() <= trial.params.keys():
            return None
        then = Model.of(study, known_before(trials, trial), distributions, settings=self._settings)
        return explain_proposal(then, trial) if then.space.columns else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_cached": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def _propose(
        self,
        study: Study,
        trial: FrozenTrial,
        distributions: Mapping[str, BaseDistribution],
        fixed: Mapping[str, Any],
    ) -> dict[str, Any]:
        with self._lock:
            trials = study.get_trials(deepcopy=False)
            weights = self._scalarisation(trial, len(study.directions))
            self._warn_of_unreadable(study, distributions)
            model = self._fitted(study, trials, distributions, weights)
            space = model.space.restricted(fixed)
            pending = self._pending(study, trial, trials, model.space)
            knows_limits = model.endings.stability is not None or model.feasibility is not None
            if not len(model.history.y) and not len(pending) and not knows_limits:
                row = self._start(trial, model, space)
            else:
                row = self._search(study, trial, model, space, pending)
            params = {**space.decode(row), **fixed}
            self._proposed.setdefault((study.study_name, trial.number), {}).update(params)
            while len(self._proposed) > MOST_PENDING:
                self._proposed.popitem(last=False)
            if weights is None:
                self._warn_of_edges(study, model)
        return params

    def _search(self, study: Study, trial: FrozenTrial, model: Model, space: Space, pending: Array) -> Array:
        """Return the row with the highest acquisition."""
        history, prior = model.history, model.prior
        n = len(history.y)
        posterior = model.posterior.thinned(48 if n <= 24 else 32 if n <= 40 else 20)
        posterior = posterior.with_fantasies(model.space.coordinates(pending))
        quick = posterior.thinned(12)
        feasible = np.concatenate([history.is_feasible, np.ones(len(pending), dtype=bool)])
        weight = PRIOR_WEIGHT / max(history.num_finished, 1)
        prunes = _prunes(study)
        exponent = self._cost_exponent(study)

        def score(rows: Array, belief: ResponseSurface = posterior) -> Array:
            at = model.space.coordinates(rows)
            total = log_improvement(belief, at, feasible=feasible, prunes=prunes)
            total += weight * prior.log_weight(at.x, at.b)
            total += model.endings.log_chance(at.b, at.x)
            if model.feasibility is not None:
                chance = model.feasibility.probability(model.space.unit(rows))
                total += np.log(np.maximum(chance, 1e-12))
            if self._cost is not None:
                costs = np.array([self._cost(space.decode(row)) for row in rows])
                total -= exponent * np.log(np.maximum(costs, 1e-300))
            return total

        around = history.rows[np.argsort(history.y, kind="stable")[:5]]
        return best_row(space, score, quick_score=lambda rows: score(rows, quick), around=around, rng=self._rng(trial))

    def _start(self, trial: FrozenTrial, model: Model, space: Space) -> Array:
        """Return the first point: the reference's batch size, the prior's learning rate there.

        Workers that start together don't know of each other's trials, so all trials but the first draw from the prior.
        """
        rng = self._rng(trial)
        row = np.empty(len(space.columns))
        prior, is_first = model.prior, trial.number == 0
        draw = prior.parameters(
            np.zeros((1, prior.num_dimensions))
            if is_first
            else np.clip(rng.standard_normal((1, prior.num_dimensions)), -1.5, 1.5)
        )
        for i, column in enumerate(space.columns):
            if column.role == "batch_size":
                assert column.values is not None
                wanted = prior.ridge.b0 if is_first else rng.choice(column.values)
                row[i] = column.snap(np.array([wanted]))[0]
            elif column.role != "lr":
                row[i] = column.encode(self._further(trial, column.name, column.distribution))
        size, rate = space.index("batch_size"), space.index("lr")
        if rate is not None:
            b = np.array([prior.ridge.b0 if size is None else row[size]])
            row[rate] = 0.0
            shift = float(space.coordinates(row[None]).x[0])
            row[rate] = prior.ridge_at(draw, b)[0, 0] - shift
            if not is_first and size is None:
                row[rate] = rng.uniform(space.columns[rate].low, space.columns[rate].high)
        return np.asarray(space.snap(row[None])[0])

    def _fitted(
        self,
        study: Study,
        trials: Sequence[FrozenTrial],
        distributions: Mapping[str, BaseDistribution],
        weights: Array | None,
    ) -> Model:
        """Return the fit to the finished trials, from the cache where nothing has finished since."""
        told = (None if weights is None else tuple(weights), tuple(distributions.items()))
        key = (finished_key(study, trials), *told)
        if self._cached is None or self._cached[0] != key:
            model = Model.of(study, trials, distributions, settings=self._settings, weights=weights)
            self._cached = (key, model)
        return self._cached[1]

    def _pending(
        self, study: Study, trial: FrozenTrial, trials: Sequence[FrozenTrial], space: Space
    ) -> NDArray[np.float64]:
        """Return the rows of running trials; parameters that aren't stored yet are taken from what was proposed."""
        running = [t for t in trials if t.state == TrialState.RUNNING and t.number != trial.number]
        points = [{**self._proposed.get((study.study_name, t.number), {}), **t.params} for t in running[-MOST_PENDING:]]
        return space.encode([point for point in points if set(space.names) <= point.keys()])

    def _warn_of_missing(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        """Warn once where no finished trial has a parameter that the sampler was told to look for."""
        names = {name for t in trials if t.state == TrialState.COMPLETE for name in t.params}
        missing = [name for name in (self._settings.batch_size, self._settings.lr) if names and name not in names]
        key = (study.study_name, "", "missing")
        if missing and key not in self._warned:
            self._warned.add(key)
            _logger.warning(
                "The study has no parameter %s; it has %s. Name them to the sampler with batch_size= and lr=.",
                in_words(missing, last="and no"),
                in_words(sorted(names)),
            )

    def _warn_of_unreadable(self, study: Study, distributions: Mapping[str, BaseDistribution]) -> None:
        """Warn once of a batch size or learning rate whose values can't be read as such."""
        for name in (self._settings.batch_size, self._settings.lr):
            key = (study.study_name, name, "unreadable")
            if name in distributions and key not in self._warned and (why := unreadable(name, distributions[name])):
                self._warned.add(key)
                _logger.warning("%s Until then the model knows it as any other parameter.", why)

    def _warn_of_independent(self, study: Study, name: str) -> None:
        """Warn once of a parameter that the model doesn't choose although there are trials to learn from."""
        key = (study.study_name, name, "independent")
        if key in self._warned:
            return
        space = joint_space(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
        if space and name not in space:
            self._warned.add(key)
            _logger.warning(
                "The parameter %s is drawn at random: the model chooses only those that every finished trial has "
                "(%s). Suggest it in every trial, with the same kind of range.",
                name,
                in_words(sorted(space)),
            )

    def _warn_of_edges(self, study: Study, model: Model) -> None:
        for edge in edges_of(model):
            name = (study.study_name, edge.parameter, edge.end)
            if name not in self._warned:
                self._warned.add(name)
                _logger.warning("%s", edge.message)

    def _scalarisation(self, trial: FrozenTrial, num_objectives: int) -> Array | None:
        return None if num_objectives == 1 else self._rng(trial).dirichlet(np.ones(num_objectives))

    def _cost_exponent(self, study: Study) -> float:
        """Return the share of the budget that is left; 1 without a budget."""
        if self._cost is None or self._cost_budget is None:
            return 1.0
        done = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and t.params]
        spent = sum(self._cost(t.params) for t in done)
        return max(0.0, 1.0 - spent / self._cost_budget)

    def _further(self, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """Return a further parameter's value without the model: in the first trial the usual one, then a random one."""
        rng = np.random.default_rng([self._settings.seed, trial.number, *name.encode()])
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[int(rng.integers(len(distribution.choices)))]
        column = Space.of({name: distribution}, batch_size="", lr="").columns[0]
        place = 0.5 if trial.number == 0 else float(rng.random())
        at = column.low + place * (column.high - column.low)
        return column.decode(0.9 if column.role == "momentum" and trial.number == 0 else at)

    def _rng(self, trial: FrozenTrial) -> np.random.Generator:
        return np.random.default_rng([self._settings.seed, trial.number])


def _ridge_of(earlier: Explanation) -> RidgePrior:
    """Return the fitted ridge of an earlier study."""
    if not earlier.is_fitted:
        raise ConfigError(f"prior_from has no ridge to start from: {earlier.message}")
    return earlier.prior


def _prunes(study: Study) -> bool:
    """Whether trials of this study may be cut short: it has a pruner, and trials that report to it."""
    if isinstance(study.pruner, NopPruner):
        return False
    done = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    return len(done) >= LEAST_FOR_BELIEF and any(t.intermediate_values for t in done)
