"""Pruning of a plain Optuna trial from inside a Lightning fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import optuna
from optuna import Trial
from optuna.study import StudyDirection

from bsopt.callbacks._base import announce
from bsopt.callbacks._metrics import MetricCallback
from bsopt.callbacks._schedules import is_decaying
from bsopt.errors import ConfigError
from bsopt.storage.attributes import write_best, write_ending
from bsopt.trial.objective import sign_of
from bsopt.trial.record import StopReason
from bsopt.trial.spec import StopDecision

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["Axis", "OptunaPruning"]

Axis: TypeAlias = Literal["samples", "epoch", "step"]
"""What a report's step counts: samples seen over all ranks, epochs finished before this one, or optimizer steps."""

AXES = ("samples", "epoch", "step")


class OptunaPruning(MetricCallback):
    """Reports a metric to an Optuna trial after every validation, and ends the fit when the pruner says so.

    Any pruner and any storage. A pruned trial raises `optuna.TrialPruned` out of `Trainer.fit`, on every rank. A pruner
    with a `decide` method, such as `bsopt.PlateauPruner`, may also call a trial converged: the fit then ends normally,
    and the objective returns `best_value`; it is told whether a scheduler of the optimizer will still lower the
    learning rate, since a plateau before that says nothing. Optuna keeps only the last report of a pruned trial, so the
    best one is kept in `best_value` and in the user attributes `bsopt:best_value` and `bsopt:best_step`. The
    reason of a pruner with `decide` is stored with the trial, as `bsopt.conclude` does it.

    Samples are the default axis because Optuna's pruners compare reports at equal steps only, and trials at different
    batch sizes reach the same epoch or optimizer step at different amounts of training; validate at equal samples
    (`val_check_interval`) for their steps to be equal. Of several validations in an epoch, the axis `epoch` reports the
    first and keeps the best.

    Reports in `on_validation_end`, or in `on_train_epoch_end` where nothing is validated; the sanity check is left out.
    Per step it counts samples (microseconds). Under DDP the ranks average the metric, rank zero reports and asks, and
    all hear the answer. That needs ranks that were started from outside (torchrun, SLURM): there the objective runs
    with a trial on rank zero and `trial=None` on the others, which see the TrialPruned, too. Where Lightning
    starts the ranks itself, each of them runs the whole script again, the study included: that is refused.

    Args:
        trial: The trial; None on ranks other than zero, or to run the same configuration without a study. In a
            LightningCLI configuration write null, and let the objective set `callback.trial` before the fit.
        monitor: A logged metric.
        axis: What a report's step counts.

    Raises:
        ConfigError: A wrong argument; at the start of a fit, ranks that Lightning starts itself, a trial off rank zero,
            or a multi-objective study.
        MetricError: During the fit, when the metric was not logged.
        optuna.TrialPruned: During the fit, when the pruner prunes.
    """

    def __init__(self, trial: Trial | None, monitor: str, *, axis: Axis = "samples") -> None:
        if axis not in AXES:
            raise ConfigError(f"axis must be one of {', '.join(AXES)}, got {axis!r}.")
        super().__init__(monitor)
        self._axis = axis
        self.trial = trial

    @property
    def trial(self) -> Trial | None:
        """The trial that is reported to. Setting it starts anew: samples and best value of an earlier one are gone."""
        return self._trial

    @trial.setter
    def trial(self, trial: Trial | None) -> None:
        self._trial = trial
        self._samples.load(0)
        self._last_step = -1
        self._best: tuple[float, int] | None = None
        self._reason: str | None = None

    @property
    def best_value(self) -> float | None:
        """The best finite value so far, or None before the first; known on rank zero."""
        return self._best[0] if self._best is not None else None

    @property
    def best_step(self) -> int | None:
        """The step of the best value."""
        return self._best[1] if self._best is not None else None

    @property
    def reason(self) -> str | None:
        """Why the fit was ended, in the pruner's words; None where it wasn't."""
        return self._reason

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse ranks and studies with which pruning can't work, before any training."""
        if stage != "fit":
            return
        if trainer.world_size > 1 and _starts_ranks(trainer):
            raise ConfigError(
                f"OptunaPruning can't work here: with {trainer.world_size} devices Lightning starts the other ranks by "
                "running this script again, so that every rank makes its own study and trial. Run the study with "
                "`bsopt study run`, which starts the ranks of each trial itself, or start the ranks from outside "
                "(torchrun, SLURM) with trial=None off rank zero."
            )
        if self.trial is None:
            announce("OptunaPruning: there is no trial, so nothing is reported and nothing pruned.")
        elif not trainer.is_global_zero:
            raise ConfigError(
                f"OptunaPruning got a trial on rank {trainer.global_rank}: each rank would report to its own. Ask for "
                "the trial on rank zero, share its parameters, and pass trial=None on the other ranks."
            )
        elif len(self.trial.study.directions) != 1:
            raise ConfigError("OptunaPruning needs a single-objective study: Optuna prunes no other.")

    def state_dict(self) -> dict[str, Any]:
        """Return samples seen, last report and best value, for a checkpoint."""
        return {"samples_seen": self._samples_seen, "last_step": self._last_step, "best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the state of a checkpoint."""
        self._samples.load(state_dict["samples_seen"])
        self._last_step = state_dict["last_step"]
        self._best = state_dict["best"]

    def _read_metric(self, trainer: Trainer) -> None:
        steps = {"samples": self._samples_seen, "epoch": trainer.current_epoch, "step": trainer.global_step}
        step, value = steps[self._axis], self._value(trainer)
        if self.trial is not None:
            self._keep_best(self.trial, value, step)
        if step <= self._last_step:
            return
        self._last_step = step
        decision = StopDecision()
        if self.trial is not None:
            decision = self._ask(self.trial, value, step, decays=_decays(trainer))
        decision = trainer.strategy.broadcast(decision)
        if not decision.is_stop:
            return
        self._reason = decision.message
        if decision.outcome == "pruned":
            raise optuna.TrialPruned(decision.message)
        trainer.should_stop = True
        announce(f"OptunaPruning: {decision.message}")

    def _keep_best(self, trial: Trial, value: float, step: int) -> None:
        sign = sign_of("minimize" if trial.study.direction == StudyDirection.MINIMIZE else "maximize")
        if math.isfinite(value) and (self._best is None or sign * value < sign * self._best[0]):
            self._best = (value, step)
            write_best(trial, value, step)

    def _ask(self, trial: Trial, value: float, step: int, *, decays: bool | None) -> StopDecision:
        """Report, and return whether to go on."""
        study = trial.study
        trial.report(value, step)
        decide = getattr(study.pruner, "decide", None)
        if decide is not None:
            frozen = study.get_trials(deepcopy=False)[trial.number]
            decision: StopDecision = decide(study, frozen, decay_remaining=decays)
            if decision.stop_reason is not None:
                write_ending(trial, decision.stop_reason, decision.message, value=self.best_value)
            return decision
        if trial.should_prune():
            name = type(study.pruner).__name__
            words = f"{name} pruned trial {trial.number} at step {step}, {self._monitor} {value:.4g}"
            return StopDecision(StopReason.PRUNED, words)
        return StopDecision()


def _decays(trainer: Trainer) -> bool | None:
    """Return whether a scheduler will still lower the learning rate; None where the module may do so by itself."""
    if trainer.lr_scheduler_configs or trainer.lightning_module.automatic_optimization:
        return is_decaying(trainer)
    return None


def _starts_ranks(trainer: Trainer) -> bool:
    """Return whether Lightning itself started the other ranks of this fit, and not torchrun or a cluster."""
    launcher = trainer.strategy.launcher
    is_spawning = "MultiProcessing" in type(launcher).__name__ or "XLA" in type(launcher).__name__
    return is_spawning or bool(getattr(launcher, "procs", None))
