"""The gradient noise scale of a training run, mostly from gradients that training computes anyway."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

from bsopt.callbacks._base import Callback, announce, is_sharded
from bsopt.callbacks._batches import ends_update, num_samples
from bsopt.callbacks._norms import norm, sq_norm, sum_of_squares
from bsopt.callbacks._overhead_budget import DEFAULT_OVERHEAD, OverheadBudget
from bsopt.callbacks._per_sample_gradients import gradient_sq_norms, optimized_parameters
from bsopt.callbacks._ranks import over_ranks
from bsopt.errors import ConfigError, TaskError, nearest
from bsopt.laws.noise_history import NoiseHistory, NoisePoint
from bsopt.laws.noise_scale import (
    NoiseMeasurement,
    NoiseScale,
    NoiseTrend,
    describe_noise_scale,
    measure_noise,
)

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer
    from torch.utils.hooks import RemovableHandle

__all__ = ["GradientNoiseScale", "Source", "check_measurable"]

Source: TypeAlias = Literal["auto", "ranks", "accumulation", "samples"]
"""Where the smaller batch size comes from; "auto" takes ranks, else accumulation, else samples."""

_WORTH_SAYING = 0.1

SOURCES = ("auto", "ranks", "accumulation", "samples")


class GradientNoiseScale(Callback):
    """Measures B_simple = tr Σ / |G|², in samples, with an interval and its trend.

    Measures in `on_after_backward`, before gradients are clipped. The AMP loss scale is divided out, and steps whose
    gradient isn't finite are left out. The gradient is compared at two batch sizes, which `source` chooses:

    - `ranks` and `accumulation`: the smaller one is a micro-batch of one rank. A hook on each parameter reads the norm
      of the gradient that one backward pass adds, before it is accumulated and before DDP averages it, so that it needs
      no memory and no communication hook (DDP takes only one, and a project may have its own). The larger one is the
      global batch, whose gradient is accumulated and averaged over ranks. Under DDP six numbers are summed over ranks
      per measurement.
    - `samples` (one device): the smaller one is a single sample, of which a few go through `training_step` one by one,
      on a shadow of the module: logs, metrics, running statistics, frozen weights and random numbers stay as they are.
      The larger one is the batch.
      With BatchNorm in training mode, quarters of the batch, of two samples at least, stand in for samples.

    Every rank holds the same estimate. Logs `bsopt/noise_scale`, `bsopt/noise_scale_low` and
    `bsopt/noise_scale_high`, and says at the end what they mean for the batch size in use. The loss has to be a mean
    over samples; only parameters that an optimizer holds count, and a micro-batch whose `training_step` returns None
    doesn't. BatchNorm makes samples depend on each other; dropout and augmentation count as noise. Manual
    optimization, sharded weights and DeepSpeed are refused.

    Args:
        source: See above.
        every: Measure every so many optimizer updates; None holds the cost below `overhead`. With 1 and the source
            `samples` a step takes about twice its time, and the words at the end say how much it was.
        overhead: Share of the training time it may take where `every` is None.
        num_samples_per_measurement: Samples taken one by one by the source `samples`.
        decay: Weight of a measurement against the next one; 0.995 averages about the last 400.
        confidence: Of the interval.
        clock: Seconds, for `overhead`.

    Raises:
        ConfigError: A wrong argument; at the start of a fit, a source that the Trainer doesn't offer, or a strategy
            or an optimization mode that can't be measured.
        TaskError: During the fit, with source `samples`, where `training_step` can't take single samples; with `auto`
            that is said once and nothing is measured.
    """

    def __init__(
        self,
        source: Source = "auto",
        *,
        every: int | None = None,
        overhead: float = DEFAULT_OVERHEAD,
        num_samples_per_measurement: int = 16,
        decay: float = 0.995,
        confidence: float = 0.95,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if source not in SOURCES:
            raise ConfigError(f"source must be one of {', '.join(SOURCES)}, got {source!r}." + nearest(source, SOURCES))
        if num_samples_per_measurement < 1:
            raise ConfigError(f"num_samples_per_measurement must be at least 1, got {num_samples_per_measurement}.")
        if not 0 < decay <= 1:
            raise ConfigError(f"decay must be in (0, 1], got {decay}.")
        if not 0 < confidence < 1:
            raise ConfigError(f"confidence must be in (0, 1), got {confidence}.")
        self._source = source
        self._num_samples = num_samples_per_measurement
        self._clock = clock
        self._overhead_budget = OverheadBudget(every, overhead=overhead, clock=clock)
        self._history = NoiseHistory(decay=decay, confidence=confidence)
        self._has_no_samples = False
        self._samples_seen = 0  # by all ranks, as of the last measurement
        self._own_samples = 0  # by this rank, since then
        self._global_batch_size = 0
        self._num_parts = 1
        self._num_ranks = 1
        self._is_offered = False
        self._window = _Window()
        self._starts_update = True
        self._measured = False

    @property
    def estimate(self) -> NoiseScale | None:
        """The noise scale now, or None before the first measurement."""
        return self._history.estimate

    @property
    def trend(self) -> NoiseTrend | None:
        """The noise scale's growth from the first to the second half of the run, or None below two measurements."""
        return self._history.trend

    @property
    def history(self) -> tuple[NoisePoint, ...]:
        """The noise scale over up to 32 stretches of the run, each from its own measurements."""
        return self._history.points

    @property
    def global_batch_size(self) -> int:
        """The batch size in use: samples of this fit's last full update; 0 before the first.

        An update is full that isn't cut short by the end of an epoch or by a micro-batch without a loss; such a one
        counts where it is the largest so far. With several ranks, the last one measured counts.
        """
        return self._global_batch_size

    @property
    def num_parts(self) -> int:
        """Micro-batches of that update, over all ranks."""
        return self._num_parts

    @property
    def num_skipped(self) -> int:
        """Measurements left out because a gradient wasn't finite."""
        return self._history.num_skipped

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what can't be measured, before any training."""
        if stage != "fit":
            return
        check_measurable(trainer, pl_module, "GradientNoiseScale")
        self._overhead_budget = self._overhead_budget.restarted()
        self._global_batch_size = 0
        self._num_parts = 1
        self._has_no_samples = False
        self._is_offered = False

    def _check_source(self, trainer: Trainer) -> None:
        offers = {
            "ranks": trainer.world_size > 1,
            "accumulation": trainer.world_size == 1 and trainer.accumulate_grad_batches > 1,
            "samples": trainer.world_size == 1,
        }
        if not offers.get(self._source, True):
            raise ConfigError(
                f"source {self._source!r} isn't there with {trainer.world_size} rank(s) and accumulate_grad_batches="
                f"{trainer.accumulate_grad_batches}; use source='auto', or one of "
                f"{', '.join(name for name, is_there in offers.items() if is_there)}."
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new update: a window of micro-batches ends with its epoch."""
        self._window.close()
        self._starts_update = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count samples, prepare the measurement of an update that is due, and refuse a source that isn't there."""
        if not self._is_offered:  # not before: a GradientAccumulationScheduler sets the first epoch's at its start
            self._check_source(trainer)
            self._num_ranks = trainer.world_size
            self._is_offered = True
        size = num_samples(batch)
        self._own_samples += size
        if self._starts_update:
            self._window.close()
            self._window = _Window(is_measured=self._overhead_budget.is_due and self._has_source(trainer))
            if self._window.is_measured and self._uses_parts(trainer):
                self._window.open(optimized_parameters(trainer), self._clock)
        self._starts_update = ends_update(trainer, batch, batch_idx)
        self._window.part_size = size
        self._window.is_last = self._starts_update
        self._window.batch = batch if self._window.is_measured and not self._uses_parts(trainer) else None
        self._window.batch_idx = batch_idx

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the norm of what this backward pass added, and after the update's last one the whole gradient's."""
        window = self._window
        if window.part_size is None:  # an optimizer such as LBFGS evaluates a batch again
            return
        window.sizes.append(window.part_size)
        window.part_size = None
        if not window.is_measured:
            return
        start = self._clock()
        scale = _loss_scale(trainer)
        window.end_part()
        if window.is_last:
            gradients = [p.grad for p in optimized_parameters(trainer) if p.grad is not None]
            k, accumulate = len(window.sizes), trainer.accumulate_grad_batches
            big = sq_norm(gradients) * (accumulate / k) ** 2 / scale**2
            if self._uses_parts(trainer):
                small = [square * accumulate**2 / scale**2 for square in window.part_sq_norms]
                self._add_parts(trainer, small, big)
            else:
                self._take_over(self._own_samples, sum(window.sizes))
                self._try_samples(trainer, pl_module, big=big, loss_scale=scale)
        window.cost += self._clock() - start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Close the update, log the estimate, and choose the next update to measure; ranks agree on it."""
        if batch is None or not self._starts_update:
            return
        window = self._window
        self._note_size(trainer)
        window.close()
        if window.is_measured and (estimate := self.estimate) is not None:
            for name, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
                if math.isfinite(value):
                    pl_module.log(f"bsopt/noise_scale{name}", value, on_step=True, on_epoch=False)
        if window.is_measured:
            self._overhead_budget.add_cost(window.cost)
        self._overhead_budget.end_update(interval=self._agreed_interval(trainer) if window.is_measured else None)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say on rank zero what the noise scale means for the batch size in use."""
        self._window.close()
        announce(self.describe())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the hooks off the parameters."""
        self._window.close()

    def describe(self) -> str:
        """Return in words what the noise scale means for the batch size in use."""
        if (estimate := self.estimate) is None:
            return f"GradientNoiseScale: nothing was measured ({self.num_skipped} non-finite steps left out)."
        words = describe_noise_scale(estimate, global_batch_size=self._global_batch_size)
        trend = self.trend
        if trend is not None and trend.is_growing:
            words += f" It grew by a factor of {trend.growth:.2g} during training."
        share = self._overhead_budget.share
        if share > _WORTH_SAYING:
            words += f" Measuring took {share:.0%} on top of training; leave `every` out to keep that to 1 %."
        return words

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured as plain data, for a checkpoint."""
        return {
            "history": self._history.state(),
            "samples_seen": self._samples_seen + self._own_samples * self._num_ranks,
            "global_batch_size": self._global_batch_size,
            "num_parts": self._num_parts,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the measurements of a checkpoint."""
        self._history.load(state_dict["history"])
        self._samples_seen, self._own_samples = state_dict["samples_seen"], 0
        self._global_batch_size = state_dict["global_batch_size"]
        self._num_parts = state_dict.get("num_parts", 1)

    def _uses_parts(self, trainer: Trainer) -> bool:
        return self._source != "samples" and trainer.world_size * trainer.accumulate_grad_batches > 1

    def _has_source(self, trainer: Trainer) -> bool:
        """Return whether the source is there now: a scheduler may have ended the accumulation."""
        return self._source != "accumulation" or trainer.accumulate_grad_batches > 1

    def _take_over(self, samples: float, window_samples: float) -> None:
        """Note what all ranks have seen since the last measurement, and in the window that is measured."""
        self._samples_seen += round(samples)
        self._own_samples = 0
        self._window.num_samples = round(window_samples)

    def _note_size(self, trainer: Trainer) -> None:
        window, accumulate = self._window, trainer.accumulate_grad_batches
        size = sum(window.sizes) if trainer.world_size == 1 else window.num_samples
        is_full = len(window.sizes) == accumulate and not trainer.is_last_batch
        if size > self._global_batch_size or (size > 0 and is_full):
            self._global_batch_size = size
            self._num_parts = len(window.sizes) * trainer.world_size

    def _add_parts(self, trainer: Trainer, part_sq_norms: list[float], big_sq_norm: float) -> None:
        """Combine the micro-batches of all ranks: b is the harmonic mean of their sizes, B is b times their number."""
        sizes = self._window.sizes
        own = [sum(part_sq_norms), sum(1.0 / size for size in sizes), len(sizes), self._own_samples, sum(sizes)]
        small, inverse_sizes, k, samples, window_samples = over_ranks(trainer, own, "sum")
        self._take_over(samples, window_samples)
        if k < 2:  # a short window at the end of an epoch
            return
        b = k / inverse_sizes
        self._add(measure_noise(small / k, big_sq_norm, small_batch_size=b, big_batch_size=b * k))

    def _try_samples(self, trainer: Trainer, pl_module: LightningModule, *, big: float, loss_scale: float) -> None:
        if self._has_no_samples:
            return
        try:
            self._add_samples(trainer, pl_module, big=big, loss_scale=loss_scale)
        except TaskError as error:
            if self._source == "samples":
                raise
            self._has_no_samples = True  # nobody asked for single samples: don't end the run over them
            announce(f"GradientNoiseScale measures nothing here: {error}")

    def _add_samples(self, trainer: Trainer, pl_module: LightningModule, *, big: float, loss_scale: float) -> None:
        window = self._window
        size = window.sizes[-1]
        part_size = max(2, size // 4) if _has_batch_norm(pl_module) else 1
        if sum(window.sizes) <= part_size:
            return
        # its own generator, seeded by the position: the user's random numbers stay as they are
        order = torch.randperm(size, generator=torch.Generator().manual_seed(self._samples_seen))
        num_parts = max(1, min(self._num_samples, size) // part_size) if part_size == 1 else size // part_size
        norms = gradient_sq_norms(
            trainer,
            pl_module,
            batch=window.batch,
            batch_idx=window.batch_idx,
            parts=list(torch.split(order[: num_parts * part_size], part_size)),
            loss_scale=loss_scale / size,
        )
        B = len(window.sizes) / sum(1.0 / n for n in window.sizes) * len(window.sizes)
        self._add(measure_noise(sum(norms) / len(norms), big, small_batch_size=part_size, big_batch_size=B))

    def _add(self, measurement: NoiseMeasurement) -> None:
        self._history.add(measurement, samples_seen=self._samples_seen)

    def _agreed_interval(self, trainer: Trainer) -> int:
        own = float(self._overhead_budget.interval)
        return max(1, round(over_ranks(trainer, [own], "mean")[0]))


def check_measurable(trainer: Trainer, pl_module: LightningModule, callback: str) -> None:
    """Refuse an optimization mode or a strategy under which the noise scale can't be measured.

    Raises:
        ConfigError: It is one of these; the message says the callback's name.
    """
    if not pl_module.automatic_optimization:
        raise ConfigError(
            f"{callback} can't tell with manual optimization which backward passes make one update. Use "
            "automatic optimization, or leave the callback out."
        )
    if is_sharded(trainer) or trainer.strategy.handles_gradient_accumulation:
        raise ConfigError(
            f"{callback} needs whole gradients on every rank, and {type(trainer.strategy).__name__} shards "
            "or accumulates them itself. Measure on one device, or with strategy='ddp'."
        )


class _Window:
    """The micro-batches of one update in progress, on this rank."""

    def __init__(self, *, is_measured: bool = False) -> None:
        self.is_measured = is_measured
        self.is_last = False
        self.sizes: list[int] = []  # of the micro-batches that reached the backward pass
        self.part_size: int | None = None  # of the one that hasn't yet
        self.num_samples = 0  # over all ranks; 0 where the window isn't measured
        self.part_sq_norms: list[float] = []
        self.batch: object = None
        self.batch_idx = 0
        self.cost = 0.0
        self._norms: list[Tensor] = []
        self._handles: list[RemovableHandle] = []

    def open(self, parameters: Sequence[Tensor], clock: Callable[[], float]) -> None:
        """Hook the parameters; the hook sees what one backward pass adds to its gradient."""

        def read(gradient: Tensor) -> None:
            start = clock()
            self._norms.append(norm(gradient))
            self.cost += clock() - start

        start = clock()
        self._handles = [p.register_hook(read) for p in parameters]  # type: ignore[no-untyped-call]
        self.cost += clock() - start

    def end_part(self) -> None:
        self.part_sq_norms.append(sum_of_squares(self._norms))
        self._norms = []

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.batch = None


def _loss_scale(trainer: Trainer) -> float:
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return float(scaler.get_scale()) if scaler is not None else 1.0


def _has_batch_norm(module: LightningModule) -> bool:
    return any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and part.training for part in module.modules())
