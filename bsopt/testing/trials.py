"""The one generator of made-up trials: records as training leaves them, from curves and times that laws gave."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from bsopt.storage.attributes import write_record
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, Tick, TrialRecord

__all__ = ["DEVICE", "MadeTrial", "store_trials", "weight_measurements"]

DEVICE = "made up"
_MESSAGES = {
    StopReason.COMPLETED: "Trained to the end of its budget.",
    StopReason.CONVERGED: "No better val_loss for 10 epochs.",
    StopReason.DIVERGED: "The loss became NaN.",
    StopReason.PRUNED_PLATEAU: "Stopped improving out of reach of the best trial.",
    StopReason.OUT_OF_MEMORY: "Out of memory in the first step.",
}


@dataclass(frozen=True, slots=True)
class MadeTrial:
    """A trial that was computed, not trained; a maker of its ticks and its record.

    Attributes:
        number: Of the trial; its seed, too.
        lr: Learning rate.
        plan: How the batch size is realised.
        num_train_samples: Samples of an epoch.
        seconds_per_step: Of an optimizer update.
    """

    number: int
    lr: float
    plan: Plan
    num_train_samples: int
    seconds_per_step: float

    @property
    def batch_size(self) -> int:
        """Global, in samples."""
        return self.plan.global_batch_size

    @property
    def seconds_per_epoch(self) -> float:
        """Of training."""
        return self.num_train_samples / self.batch_size * self.seconds_per_step

    def tick(self, index: int, samples: float, **metrics: float) -> Tick:
        """Return the validation number `index` (from 1 on) after so many samples; `val_loss` is its value."""
        return Tick(
            index=index,
            samples=samples,
            step=math.ceil(samples / self.batch_size),
            epoch=samples / self.num_train_samples,
            seconds=samples / self.num_train_samples * self.seconds_per_epoch,
            value=metrics["val_loss"],
            lr=self.lr,
            metrics=metrics,
        )

    def record(self, ticks: Sequence[Tick], stop_reason: StopReason) -> TrialRecord:
        """Return the record of the trial; without ticks it ended in its first step, else one of them is finite."""
        record = TrialRecord(
            number=self.number,
            outcome=stop_reason.outcome,
            batch_size=self.batch_size,
            lr=self.lr,
            params={"batch_size": self.batch_size, "lr": self.lr},
            stop_reason=stop_reason,
            message=_MESSAGES[stop_reason],
            plan=self.plan,
            seed=self.number,
            num_train_samples=self.num_train_samples,
            device=DEVICE,
        )
        if not ticks:
            return record
        best = min((tick for tick in ticks if math.isfinite(tick.value)), key=lambda tick: tick.value)
        return replace(
            record,
            value=best.value,
            best_tick=best.index,
            ticks=tuple(ticks),
            num_steps=ticks[-1].step,
            seconds=ticks[-1].seconds,
            seconds_per_epoch=self.seconds_per_epoch,
            seconds_per_step=self.seconds_per_step,
            samples_per_second=self.batch_size / self.seconds_per_step,
        )


def weight_measurements(
    length: float,
    ticks: Sequence[Tick],
    *,
    from_start: Sequence[float],
    epochs: Sequence[float],
    shares: Mapping[str, float],
) -> dict[str, object]:
    """Return what the callbacks WeightDistance and UpdateNorms leave.

    Args:
        length: The median norm of an update; all lie within two octaves of it.
        ticks: The trial's validations.
        from_start: ‖θ − θ₀‖ at each of them.
        epochs: ‖θ_end − θ_start‖ of each epoch.
        shares: Layer -> its share of the distance at the end.
    """
    edges = [length * 2.0 ** (k / 4.0) for k in range(-8, 9)]
    counts = [round(1000.0 * math.exp(-0.5 * ((k + 0.5) / 2.5) ** 2)) for k in range(-8, 8)]
    total = from_start[-1]
    return {
        "WeightDistance": {
            "total": total,
            "per_layer": {layer: share * total for layer, share in shares.items()},
            "steps": [tick.step for tick in ticks],
            "from_start": list(from_start),
            "epochs": list(epochs),
        },
        "UpdateNorms": {
            "num_measured": sum(counts),
            "num_updates": ticks[-1].step,
            "mean": length,
            "minimum": edges[0],
            "maximum": edges[-1],
            "quantiles": {"0.5": length},
            "bin_edges": edges,
            "bin_counts": counts,
        },
    }


def store_trials(
    study: optuna.Study, records: Iterable[TrialRecord], *, batch_size: tuple[int, int], lr: tuple[float, float]
) -> None:
    """Ask for a trial per record, report its validations, and tell how it ended.

    Args:
        study: Where their parameters aren't in its queue yet, they are queued here.
        records: In the order of their numbers.
        batch_size: Range of the parameter, in samples.
        lr: Likewise.
    """
    space = {"batch_size": IntDistribution(*batch_size, log=True), "lr": FloatDistribution(*lr, log=True)}
    is_queued = bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
    for record in records:
        if not is_queued:
            study.enqueue_trial(dict(record.params))
        trial = study.ask(dict(space))
        for tick in record.ticks:
            if math.isfinite(tick.value):
                trial.report(tick.value, int(tick.samples))
        write_record(trial, record)
        if record.outcome == "complete":
            study.tell(trial, record.value)
        else:
            study.tell(trial, state=TrialState.PRUNED)
