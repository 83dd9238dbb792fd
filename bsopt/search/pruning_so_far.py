"""What a pruner has done in a study so far and, where it pruned nothing, why."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from bsopt.search.learning_curves import what_is_reported
from bsopt.storage.attributes import continued_number, read_stop_reason
from bsopt.trial.record import StopReason
from bsopt.units import count_of, format_chance

__all__ = ["tell_pruning"]


def tell_pruning(
    study: optuna.Study, *, min_finished: int, min_reports: int, threshold: float, decays_to_end: bool | None
) -> str:
    """Return how many trials were ended early and, where none was pruned, why not and what would change that.

    Args:
        study: The study.
        min_finished: Trials that must have finished before one is pruned for its chance.
        min_reports: Reports that a trial must have made before that.
        threshold: The chance below which a trial is pruned; 0 for never.
        decays_to_end: Whether a plateau says nothing, since the learning rate still decays.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    converged = sum(read_stop_reason(trial) is StopReason.CONVERGED for trial in trials)
    early = f" {count_of(converged, 'trial')} converged before the end, as complete." if converged else ""
    if pruned:
        gone_on = sum(continued_number(trial) is not None for trial in trials)
        paused = f" {count_of(gone_on, 'trial')} went on from paused ones, which count among these." if gone_on else ""
        return f"{pruned} of {count_of(len(trials), 'trial')} were pruned.{paused}{early}"
    reports = max((len(trial.intermediate_values) for trial in trials), default=0)
    if len(study.directions) > 1:
        why = "the study has several objectives, and Optuna prunes in none of those"
    elif len(trials) <= min_finished:
        why = f"the first {min_finished} trials run to their end, and {len(trials)} have finished (min_finished)"
    elif reports == 0:
        why = (
            "no trial reports anything. Call trial.report(value, step) after each epoch, then bsopt.conclude(trial) or "
            "trial.should_prune()"
        )
    elif reports < min_reports:
        why = (
            f"trials report at most {count_of(reports, 'time')}, and none is judged before it has made {min_reports}. "
            "Report more often, or lower min_reports"
        )
    elif what_is_reported(study, trials) != "curve":
        why = (
            "trials return something else than they report, so that no report tells how a trial will end. Report what "
            "is returned, at each step as it is then"
        )
    elif threshold == 0.0:
        why = "threshold=0 prunes no trial for its chance of beating the best"
    else:
        why = (
            f"at each report that the pruner was asked about, the chance of beating the best was above "
            f"{format_chance(threshold)} (threshold), or the objective doesn't ask: it must call bsopt.conclude(trial) "
            "or trial.should_prune() after each report"
        )
        if decays_to_end:
            why += ". Since decays_to_end is set, a plateau alone ends nothing"
    return f"Nothing was pruned: {why}.{early}"
