"""When the ticks of a trial fall, and how many samples it really saw: arithmetic that needs no Trainer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bsopt.units import Amount, in_samples

__all__ = ["Schedule", "exact_samples"]

_EARLY_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Of the first regular tick's samples: where a geometric schedule validates before it."""

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Schedule:
    """When ticks fall, in nominal samples.

    Attributes:
        every: Nominal samples between ticks.
        end: Nominal samples of the whole trial; None where it isn't limited by samples.
        before: Nominal samples of the ticks before the first regular one, rising: crossings are seen where they happen.
    """

    every: float
    end: float | None
    before: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, every: Amount, length: Amount | None, *, num_train_samples: int | None, is_geometric: bool = False
    ) -> Schedule:
        """Turn amounts into samples.

        Args:
            every: Between ticks.
            length: Of a full trial; None where it isn't limited.
            num_train_samples: N; None for data of unknown length.
            is_geometric: Whether ticks at 1/16, 1/8, 1/4 and 1/2 of `every` come before the first.

        Raises:
            ConfigError: An amount is in epochs and the data's length isn't known.
        """
        step_budget = length is not None and length.unit == "steps"
        gap = in_samples(every, num_train_samples, "budget.validate_every")
        end = None if length is None or step_budget else in_samples(length, num_train_samples, "budget.epochs")
        early = [share * gap for share in _EARLY_SHARES] if is_geometric else []
        return cls(gap, end, tuple(samples for samples in early if end is None or samples < end))

    @property
    def num_ticks(self) -> int | None:
        """Ticks of a full trial; None where it isn't limited by samples."""
        return None if self.end is None else len(self.before) + math.ceil(self.end / self.every - _TOLERANCE)

    def due(self, samples: float) -> int:
        """Return the index of the last tick that is due after so many nominal samples; 0 before the first."""
        if self.num_ticks is not None and self.is_over(samples):
            return self.num_ticks
        regular = math.floor(samples / self.every * (1 + _TOLERANCE) + _TOLERANCE)
        early = sum(samples * (1 + _TOLERANCE) + _TOLERANCE >= tick for tick in self.before)
        return early + regular

    def samples_at(self, index: int) -> float:
        """Return the nominal samples of tick `index`, the budget's end for the last."""
        if index <= len(self.before):
            return self.before[index - 1] if index else 0.0
        samples = (index - len(self.before)) * self.every
        return samples if self.end is None else min(samples, self.end)

    def is_over(self, samples: float) -> bool:
        """Whether the budget is spent."""
        return self.end is not None and samples >= self.end * (1 - _TOLERANCE)


def exact_samples(
    num_batches: int, *, samples_per_batch: int, batches_per_epoch: float, num_train_samples: int | None
) -> int:
    """Return the samples that really went through the model, ragged ends and `drop_last` counted.

    Args:
        num_batches: Batches done on one rank.
        samples_per_batch: Of a full batch over all ranks.
        batches_per_epoch: Infinite for data of unknown length.
        num_train_samples: N; None for data of unknown length.

    >>> exact_samples(5, samples_per_batch=32, batches_per_epoch=4, num_train_samples=100)  # 32 + 32 + 32 + 4, then 32
    132
    """
    if not math.isfinite(batches_per_epoch) or batches_per_epoch < 1 or num_train_samples is None:
        return num_batches * samples_per_batch
    per_epoch = min(num_train_samples, int(batches_per_epoch) * samples_per_batch)
    epochs, rest = divmod(num_batches, int(batches_per_epoch))
    return epochs * per_epoch + min(rest * samples_per_batch, per_epoch)
