"""When a trial should stop: converged, out of reach, diverged, or at its target.

    pruner = bsopt.PlateauPruner(patience=3)
    study = optuna.create_study(sampler=bsopt.ScalingSampler(), pruner=pruner)

    def objective(trial):
        for epoch in range(50):
            ...
            trial.report(val_loss, epoch)
            if (value := bsopt.conclude(trial)) is not None:
                return value
        return best_val_loss

`trial.should_prune()` works as with any pruner. `conclude` also ends a converged trial, as COMPLETE with its best
value. Optuna alone can't do that: of a pruned trial it keeps only the last value, and `best_trial` passes over it.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bsopt.errors import ConfigError, nearest
from bsopt.laws.plateau import RULES, flat_for
from bsopt.search.arguments import as_call, check_names
from bsopt.search.history import study_sign
from bsopt.search.learning_curves import UNKNOWN_UNIT, Curves, finished_curves
from bsopt.search.prospects import Prospects
from bsopt.search.pruning_so_far import tell_pruning
from bsopt.search.stopping_rules import Reports, divergence
from bsopt.search.target_rule import towards_target
from bsopt.storage.attributes import BATCH_SIZE, LR, continued_number, read_decay_remaining, write_ending
from bsopt.trial.record import StopReason
from bsopt.trial.spec import StopDecision
from bsopt.units import count_of, format_chance, format_number

__all__ = ["PlateauPruner", "conclude"]

_LATEST_PAUSE = 0.5  # of a full run: later there is little left to save, and finished trials are what is learned from
_RETURN = 1.4  # so many times the chance that paused it brings a trial back

_logger = logging.getLogger(__name__)


class PlateauPruner(BasePruner):
    """Ends trials for which more training would change nothing, judged by the value at which they would end.

    Decided at each report, in this order:

    1. *diverged*: two reports in a row that aren't finite or are far worse than the trial's first.
    2. With `target`: *target_reached*, or hopeless when it can't be reached before the best time so far.
    3. *hopeless* or, without progress over the last `patience`, pruned at its *plateau*: the chance to end as good as
       the study's best, or no further behind than two seeds of one configuration differ, is below `threshold`.
    4. *converged*: no progress over the last `patience`, and none to come. While the learning rate is still to decay a
       plateau says nothing. Else it is the end where the chance of a value that is better by `margin` is below
       `threshold` and the study's finished curves that were flat at this point, at least three, stayed so. Nobody need
       say how the learning rate changes: the finished curves show it.

    Whether the learning rate is still to decay is said by `decays_to_end`, or for one trial at a time by its user
    attribute `lr_decay_remaining`; `bsopt study run` and `bsopt.callbacks.OptunaPruning` read it from Lightning.
    With `pause_below` a trial whose chance is small but not nil is *paused*: to Optuna it is pruned, and
    `bsopt.continue_paused` queues it again if its chance comes back, or at the end, from its checkpoint
    (`bsopt.search.pausing`). Nothing is paused in the second half of a run.

    With a `patience` of your own and no decay to come (False, not unknown) a plateau is the end without more evidence:
    that is what patience means in other rules.

    The chances come from `bsopt.laws.learning_curves`, which learns from the study's finished curves, their noise
    included; if the study's sampler is a `ScalingSampler`, its belief about the trial's parameters counts too. Trials
    are compared at equal steps, so report samples or epochs; updates are told by `unit="updates"`, or found out where
    the finished trials ended at equal step · batch size. Report the current value, not the best so far. A report that
    isn't finite is left out unless two come in a row.

    `trial.should_prune()` can't end a trial as finished. A converged trial that isn't the best is then pruned, which
    loses nothing; the best one so far runs on, since Optuna passes over the value of a pruned trial. With
    `bsopt.conclude` in its place it ends there and then with its best value.

    A prediction that prunes too much would never be proved wrong. So nothing is pruned for its chance before
    `min_finished` trials have finished and the trial has made `min_reports` reports, nor at the step where trials end;
    one trial in `audit_every`, chosen by its number, is never pruned for its chance; and when the last three trials
    were all pruned at the first possible report, the next one isn't. Every process decides the same from the same
    study.

    A study with several objectives has no single best value to compare with: only divergence ends a trial.

    The rule of Chang & Pathak 2020, no better validation loss over 100 epochs, is
    `PlateauPruner(patience=100, rule="keras", threshold=0.0)`.

    Args:
        patience: Distance in steps (samples in a bsopt study) without progress that makes a plateau; None
            for a tenth of the finished trials' last step, at least three reports.
        min_delta: The least improvement that counts, in value units (for "relative" a share of the best
            value, for "prechelt_gl" the loss α in percent).
        rule: "noise": `bsopt.laws.plateau.plateau_test`, which knows the curve's noise. "keras": no value better than
            the best by more than min_delta. "relative": the same with min_delta · |best|, as PyTorch's
            ReduceLROnPlateau. "prechelt_gl": generalisation loss above min_delta percent. "prechelt_up":
            UP_3, the value worse at the end of each third of `patience` than at the end of the one before.
        threshold: Chance below which a trial is out of reach; 0 never prunes for its chance and takes any plateau
            for the end.
        margin: The least improvement that keeps a trial on a plateau from having converged, as a share of the distance
            between the best and the median of the finished trials.
        min_finished: How many trials must have finished before one is pruned for its chance. Those of `prior_from`
            count, but one of its own has to be there to compare with.
        min_reports: How many reports a trial must have made before it is pruned for its chance.
        audit_every: One trial in this many is never pruned for its chance; 0 for none.
        target: The value at which a trial ends; None where trials go for the best value they can reach.
        decays_to_end: True: the learning rate decays until the last step (cosine, linear, one-cycle), so nothing
            converges earlier. False: it doesn't. None: unknown, so that only finished curves can tell.
        pause_below: Chance below which a trial is paused; 0 pauses none. Only of use where trials leave checkpoints.
        prior_from: An earlier study of the same task and metric, with trials as long as these: how its curves went on
            says how these will.
        wrapped_pruner: Another pruner, which is asked only once a trial no longer improves (as in PatientPruner).
        batch_size: Name of the batch size parameter.
        lr: Name of the learning rate parameter.
        unit: What steps are called in messages, for example "epochs". Where it is "updates" trials are compared at
            equal step · batch size; where it is anything but "steps" they are not.
        unit_size: Steps per unit, for example samples per epoch with `unit="epochs"`.

    Raises:
        ConfigError: An argument outside its range.
    """

    def __init__(
        self,
        *,
        patience: float | None = None,
        min_delta: float = 0.0,
        rule: str = "noise",
        threshold: float = 0.05,
        margin: float = 0.02,
        min_finished: int = 3,
        min_reports: int = 3,
        audit_every: int = 8,
        target: float | None = None,
        decays_to_end: bool | None = None,
        pause_below: float = 0.0,
        prior_from: optuna.Study | None = None,
        wrapped_pruner: BasePruner | None = None,
        batch_size: str = BATCH_SIZE,
        lr: str = LR,
        unit: str = UNKNOWN_UNIT,
        unit_size: float = 1.0,
    ) -> None:
        in_steps = "above 0, in the steps that trials report"
        _require(patience is None or (_is_finite(patience) and patience > 0), "patience", patience, in_steps)
        _require(_is_finite(min_delta) and min_delta >= 0, "min_delta", min_delta, "at least 0")
        _require(0.0 <= threshold < 1.0, "threshold", threshold, "in [0, 1)")
        _require(0.0 <= pause_below < 1.0, "pause_below", pause_below, "in [0, 1)")
        _require(0.0 <= margin < 1.0, "margin", margin, "in [0, 1)")
        _require(min_finished >= 1, "min_finished", min_finished, "at least 1")
        _require(min_reports >= 1, "min_reports", min_reports, "at least 1")
        _require(audit_every >= 0 and audit_every != 1, "audit_every", audit_every, "0 or at least 2")
        _require(target is None or _is_finite(target), "target", target, "a finite number")
        _require(_is_finite(unit_size) and unit_size > 0, "unit_size", unit_size, "above 0")
        is_study = prior_from is None or isinstance(prior_from, optuna.Study)
        _require(is_study, "prior_from", prior_from, "an Optuna study")
        if rule not in RULES:
            raise ConfigError(f"rule must be one of {', '.join(RULES)}, got {rule!r}." + nearest(str(rule), RULES))
        if wrapped_pruner is not None and not isinstance(wrapped_pruner, BasePruner):
            raise ConfigError(f"wrapped_pruner must be an Optuna pruner, got {wrapped_pruner!r}.")
        check_names(batch_size=batch_size, lr=lr)
        self.patience, self.min_delta, self.rule, self.threshold = patience, min_delta, rule, threshold
        self.margin, self.pause_below = margin, pause_below
        self.min_finished, self.min_reports, self.audit_every = min_finished, min_reports, audit_every
        self.prior_from = None if prior_from is None else prior_from.study_name  # not the study: it can't be pickled
        self._prior_direction = None if prior_from is None else prior_from.directions[0]
        self.earlier_curves = () if prior_from is None else finished_curves(prior_from, batch_size=batch_size, lr=lr)
        self.target, self.decays_to_end, self.wrapped_pruner = target, decays_to_end, wrapped_pruner
        self.batch_size, self.lr, self.unit, self.unit_size = batch_size, lr, unit, unit_size
        self._has_told = False

    def __repr__(self) -> str:
        return as_call(self, {name: getattr(self, name) for name in inspect.signature(type(self)).parameters})

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial should end as PRUNED.

        A converged trial should unless it is the best so far, whose value Optuna would pass over: only `conclude` can
        end that one, which is logged once.
        """
        decision = self.decide(study, trial)
        if decision.outcome != "complete":
            return decision.outcome == "pruned"
        if decision.stop_reason is StopReason.CONVERGED and _is_beaten(study, decision.best):
            return True
        if not self._has_told:
            self._has_told = True
            _logger.warning(
                "Trial %d could end now (%s), but as a pruned trial its value would be passed over, so it trains on. "
                "In place of trial.should_prune(), `if (value := bsopt.conclude(trial)) is not None: return value` "
                "ends such trials with their best value.",
                trial.number,
                decision.message,
            )
        return False

    def explain(self, study: optuna.Study) -> str:
        """Return how many trials were ended early and, where none was pruned, why not and what would change that."""
        return tell_pruning(
            study,
            min_finished=max(1, self.min_finished - len(self.earlier_curves)),
            min_reports=self.min_reports,
            threshold=self.threshold,
            decays_to_end=self.decays_to_end,
        )

    def decide(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        *,
        decay_remaining: bool | None = None,
        spent: float | None = None,
    ) -> StopDecision:
        """Return whether a trial goes on or how it ends, and why.

        Args:
            study: The study, any storage.
            trial: The trial with its reports so far.
            decay_remaining: Whether its learning rate is still scheduled to decay; where None, the trial's user
                attribute `lr_decay_remaining` says, and without it `decays_to_end`.
            spent: With `target`, what the trial has cost so far, in the unit of the study's values, for example
                seconds. Where None, steps are compared instead.

        Raises:
            ConfigError: The study of `prior_from` goes the other way.
        """
        reports = Reports.of(study, trial)
        if (reason := divergence(reports)) is not None:
            return StopDecision(StopReason.DIVERGED, reason, 0.0, reports.best)
        if len(study.directions) != 1:
            return StopDecision(None, "several objectives: no single best to be out of reach of")
        if self.earlier_curves and study.direction != self._prior_direction:
            raise ConfigError(
                f"prior_from must be a study with the same metric as this one, got {self.prior_from!r}, which is to "
                f"{_verb(self._prior_direction)} while this one is to {_verb(study.direction)}. Leave it out, or name "
                "another."
            )
        if not len(reports.steps):
            return StopDecision(None, "no finite report yet")
        trials = study.get_trials(deepcopy=False)
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        if self.target is not None:
            return towards_target(
                reports, complete, spent, target=self.target, threshold=self.threshold, min_finished=self.min_finished,
                distance=self._distance,
            )  # fmt: skip
        return self._towards_best(study, trial, reports, trials, complete, self._decays(trial, decay_remaining))

    def chance(self, study: optuna.Study, trial: FrozenTrial) -> float:
        """Return the chance that a trial would end as good as the best if it went on, by its curve; NaN if unknown.

        Args:
            study: The study, with one objective.
            trial: A trial with at least one finite report, running or ended.
        """
        trials = study.get_trials(deepcopy=False)
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        curves = Curves.of(study, trials, batch_size=self.batch_size, lr=self.lr)
        return Prospects.of(None, trial, Reports.of(study, trial), complete=complete, curves=curves).catching_up()

    @property
    def continue_above(self) -> float:
        """The chance from which on a paused trial is gone on with; above the one that paused it."""
        return min(_RETURN * self.pause_below, 0.5 * (1.0 + self.pause_below))

    def _decays(self, trial: FrozenTrial, decay_remaining: bool | None) -> bool | None:
        if decay_remaining is not None:
            return decay_remaining
        return read_decay_remaining(trial, default=self.decays_to_end)

    def _towards_best(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        reports: Reports,
        trials: Sequence[FrozenTrial],
        complete: Sequence[FrozenTrial],
        decays: bool | None,
    ) -> StopDecision:
        curves = Curves.of(study, trials, batch_size=self.batch_size, lr=self.lr)
        prospects = Prospects.of(study, trial, reports, complete=complete, curves=curves)
        patience = self._patience(trial, reports, curves)
        stuck_for = None if patience is None else self._flat_for(reports.steps, reports.values, patience=patience)
        chance = prospects.catching_up()
        num_known = max(prospects.num_finished, prospects.num_curves) if prospects.num_finished else 0
        may_judge = num_known >= self.min_finished and len(reports.steps) >= self.min_reports
        is_behind = may_judge and chance < self.threshold
        words = f"at {format_number(reports.best)} after {self._distance(float(reports.steps[-1]))}"
        if stuck_for is not None:
            words = f"plateaued at {format_number(reports.best)} for {self._distance(stuck_for)}"
        if prospects.is_longer:  # no finished curve tells what comes here, only a patience of one's own
            own = self._why_the_end(prospects, decays=decays, may_judge=False, patience=patience)
            if stuck_for is None or own is None:
                return StopDecision(None, f"{words}, past where the finished trials ended", math.nan, reports.best)
            return StopDecision(StopReason.CONVERGED, f"{words}; {own}", math.nan, reports.best)
        if prospects.progress >= 1.0:  # nothing is left to save, and a pruned trial's value would be passed over
            return StopDecision(None, f"{words}, where trials end", chance, reports.best)
        if is_behind:
            verdict = f"{words}; {self._comparison(prospects, chance)}"
            if self._is_exempt(trial, trials):  # it shows where such curves end
                return StopDecision(None, f"{verdict}; it runs on as a check", chance, reports.best)
            if (saving := prospects.saving_value(self.threshold)) is not None:
                verdict += f"; with {format_number(saving)} by now it would have gone on"
            if stuck_for is not None:
                return StopDecision(StopReason.PRUNED_PLATEAU, verdict, chance, reports.best)
            return StopDecision(StopReason.PRUNED_HOPELESS, f"hopeless {verdict}", chance, reports.best)
        is_unlikely = may_judge and chance < self.pause_below
        if is_unlikely and prospects.progress <= _LATEST_PAUSE and self._may_pause(trial, trials):
            verdict = f"paused {words}; {self._comparison(prospects, chance)}"
            return StopDecision(StopReason.PAUSED, verdict, chance, reports.best)
        if stuck_for is None:
            return StopDecision(None, f"{words}; {self._comparison(prospects, chance)}", chance, reports.best)
        if self._wrapped_prunes(study, trial):
            return StopDecision(StopReason.PRUNED, f"{words}; {self._wrapped_name} ends it", chance, reports.best)
        if (why := self._why_the_end(prospects, decays=decays, may_judge=may_judge, patience=patience)) is None:
            return StopDecision(None, f"{words}; {self._comparison(prospects, chance)}", chance, reports.best)
        return StopDecision(StopReason.CONVERGED, f"{words}; {why}", chance, reports.best)

    def _why_the_end(
        self, prospects: Prospects, *, decays: bool | None, may_judge: bool, patience: float | None
    ) -> str | None:
        """Return why a plateau is the end of a trial's progress, in words; None where it may not be."""
        if decays:
            return None
        own = "the best so far" if prospects.own_best <= prospects.best else self._best(prospects)
        if self.threshold == 0.0:
            return own
        if decays is False and self.patience is not None:
            return f"{own}; no learning-rate decay is to come"
        chance = self._chance_of_more(prospects, patience)
        if not (may_judge and chance < self.threshold):
            return None
        curves = count_of(prospects.num_curves, "finished curve")
        return f"{own}; the chance of a better end is {format_chance(chance)} (by {curves}; those flat here stayed so)"

    def _comparison(self, prospects: Prospects, chance: float) -> str:
        if prospects.best_number is None:
            return "no trial has finished yet"
        noise = prospects.seed_deviation
        behind = f"no more than a seed's {format_number(noise, digits=2)} behind" if noise > 0.0 else "as well"
        curves = count_of(prospects.num_curves, "finished curve")
        return f"{self._best(prospects)}; the chance to end {behind} is {format_chance(chance)} (by {curves})"

    def _best(self, prospects: Prospects) -> str:
        best = prospects.reports.sign * prospects.best
        return f"trial {prospects.best_number}, the best, reached {format_number(best)}"

    def _chance_of_more(self, prospects: Prospects, patience: float | None) -> float:
        """Return the chance that a trial on a plateau improves once more; NaN if unknown."""
        if prospects.curves is None or patience is None:
            return math.nan
        share = patience / prospects.curves.last_step(prospects.trial)

        def is_flat(progress: NDArray[np.float64], values: NDArray[np.float64]) -> bool:
            return self._flat_for(progress, values, patience=share) is not None

        return prospects.improving(self.margin, is_flat=is_flat)

    def _flat_for(self, steps: NDArray[np.float64], values: NDArray[np.float64], *, patience: float) -> float | None:
        return flat_for(steps, values, patience=patience, rule=self.rule, min_delta=self.min_delta)

    def _patience(self, trial: FrozenTrial, reports: Reports, curves: Curves | None) -> float | None:
        if self.patience is not None:
            return self.patience
        if curves is None or len(reports.steps) < 4:
            return None
        return max(0.1 * curves.last_step(trial), float(reports.steps[-1] - reports.steps[-4]))

    def _is_exempt(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
        """Whether the trial is an audit, or the last three before it were all pruned at the first possible report."""
        if self.audit_every and _scattered(trial.number) % self.audit_every == 0:
            return True
        earlier = [t for t in trials if t.number < trial.number and t.state.is_finished()][-3:]
        return len(earlier) == 3 and all(
            t.state == TrialState.PRUNED and 0 < len(t.intermediate_values) <= self.min_reports for t in earlier
        )

    def _may_pause(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
        return continued_number(trial) is None and not self._is_exempt(trial, trials)

    def _wrapped_prunes(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return self.wrapped_pruner is not None and self.wrapped_pruner.prune(study, trial)

    @property
    def _wrapped_name(self) -> str:
        return type(self.wrapped_pruner).__name__

    def _distance(self, steps: float) -> str:
        count = steps / self.unit_size
        name = self.unit[:-1] if count == 1 and self.unit.endswith("s") else self.unit
        return f"{format_number(count, digits=3, thousands=True)} {name}"


def conclude(trial: optuna.trial.BaseTrial) -> float | None:
    """End a trial from within its objective if there is nothing more to learn from it.

        if (value := bsopt.conclude(trial)) is not None:
            return value

    The reason is stored with the trial, where bsopt's report and dashboard look for it.

    Args:
        trial: The live trial, after `trial.report`. A `FixedTrial` or `FrozenTrial`, with which an objective is run
            again outside its study, always goes on.

    Returns:
        The trial's best value if it has converged or reached its target, which the objective then returns; None
        if the trial goes on. Where the study's values are times to a target, return that time instead.

    Raises:
        optuna.TrialPruned: The trial is out of reach of the best, or diverged.
    """
    if not isinstance(trial, optuna.Trial):  # of no study, or a host's own, which asks in its place
        if trial.should_prune():
            raise optuna.TrialPruned("the study's pruner ended the trial")
        return None
    study = trial.study
    if not isinstance(study.pruner, PlateauPruner):
        if trial.should_prune():
            raise optuna.TrialPruned(f"{type(study.pruner).__name__} ended the trial")
        return None
    frozen = study.get_trials(deepcopy=False)[trial.number]
    decision = study.pruner.decide(study, frozen)
    if not decision.is_stop:
        return None
    assert decision.stop_reason is not None
    best = decision.best if math.isfinite(decision.best) else None
    write_ending(trial, decision.stop_reason, decision.message, value=best)
    if decision.outcome == "pruned":
        raise optuna.TrialPruned(decision.message)
    return decision.best


def _is_beaten(study: optuna.Study, value: float) -> bool:
    """Whether a finished trial is at least as good as a value."""
    sign = study_sign(study)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return any(t.values and sign * t.values[0] <= sign * value for t in complete)


def _scattered(number: int) -> int:
    """A fixed hash of a trial number: a sampler with a cycle can't fall in step with the audits (Knuth 1998, 6.4)."""
    return (number * 2654435761 % 2**32) >> 16


def _verb(direction: StudyDirection | None) -> str:
    return "be maximised" if direction == StudyDirection.MAXIMIZE else "be minimised"


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"{name} must be {allowed}, got {value!r}.")
