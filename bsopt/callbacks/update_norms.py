"""The norms of the updates: how far each optimizer step moves the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bsopt.callbacks._base import Callback, is_sharded
from bsopt.callbacks._batches import ends_update
from bsopt.callbacks._overhead_budget import DEFAULT_OVERHEAD, OverheadBudget
from bsopt.callbacks._per_sample_gradients import sq_norm
from bsopt.errors import ConfigError

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["NormHistogram", "UpdateNormSummary", "UpdateNorms"]

_RELATIVE_ERROR = 0.01
_GAMMA = (1 + _RELATIVE_ERROR) / (1 - _RELATIVE_ERROR)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class UpdateNormSummary:
    """The distribution of ‖θ_{t+1} − θ_t‖ over the measured updates.

    Attributes:
        num_measured: Updates measured.
        num_updates: Updates made.
        mean: Mean norm.
        minimum: Smallest norm.
        maximum: Largest norm.
        quantiles: Probability -> norm, at most 1 % off.
        bin_edges: Edges of the histogram's bins, increasing; one more than `bin_counts`.
        bin_counts: Updates per bin.
    """

    num_measured: int
    num_updates: int
    mean: float
    minimum: float
    maximum: float
    quantiles: Mapping[float, float]
    bin_edges: tuple[float, ...]
    bin_counts: tuple[int, ...]

    @property
    def median(self) -> float:
        return self.quantiles[0.5]


class NormHistogram:
    """A streaming histogram of positive numbers whose quantiles are at most 1 % off.

    Bin i holds (γ^(i−1), γ^i] with γ = 1.01/0.99 (DDSketch: Masson, Rim & Lee 2019, arXiv 1908.10693, section 2.1).
    A factor of ten takes 115 bins; empty ones aren't stored.
    """

    def __init__(self, bins: Mapping[int, int] | None = None) -> None:
        self._bins = dict(bins or {})

    @property
    def bins(self) -> dict[int, int]:
        """Bin number -> count."""
        return dict(self._bins)

    def add(self, value: float) -> None:
        """Count a positive, finite number."""
        index = math.ceil(math.log(value) / math.log(_GAMMA))
        self._bins[index] = self._bins.get(index, 0) + 1

    def quantile(self, q: float) -> float:
        """Return the value below which a share q of the numbers lies; NaN where there are none."""
        total = sum(self._bins.values())
        rank = q * (total - 1)
        passed = 0
        for index in sorted(self._bins):
            passed += self._bins[index]
            if passed > rank:
                return 2.0 * _GAMMA**index / (_GAMMA + 1.0)
        return math.nan

    def edges_and_counts(self, *, max_bins: int = 40) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Return the histogram with neighbouring bins joined until there are at most `max_bins`, evenly in log."""
        if not self._bins:
            return (), ()
        first, last = min(self._bins), max(self._bins)
        width = math.ceil((last - first + 1) / max_bins)
        num_bins = math.ceil((last - first + 1) / width)
        counts = [0] * num_bins
        for index, count in self._bins.items():
            counts[(index - first) // width] += count
        return tuple(_GAMMA ** (first - 1 + i * width) for i in range(num_bins + 1)), tuple(counts)


class UpdateNorms(Callback):
    """Measures ‖θ_{t+1} − θ_t‖, the size of the updates, as a streaming histogram with quantiles.

    Copies the weights in `on_before_optimizer_step`, after clipping is decided and before the step, and compares them
    in `on_train_batch_end`. A measured update costs one transient copy of the trainable weights on their device and
    two passes over them; `every=1` does that at every step, which is cheap beside the step of a convolutional network
    and may double that of a large embedding or linear model with small batches. By default the interval is chosen so
    that it takes 1 % of the training time. Only rank zero measures; under DDP the weights are the same everywhere.
    Logs `bsopt/update_norm`. With manual optimization, an update is all that happens within one batch. Steps that AMP
    skips move nothing and are left out.

    Args:
        every: Measure every so many updates; None holds the cost below `overhead`.
        overhead: Share of the training time it may take where `every` is None.
        clock: Seconds, for `overhead`.

    Raises:
        ConfigError: A wrong argument; at the start of a fit, a strategy that shards the weights.
    """

    def __init__(
        self,
        *,
        every: int | None = None,
        overhead: float = DEFAULT_OVERHEAD,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._every = every
        self._overhead = overhead
        self._clock = clock
        self._overhead_budget = OverheadBudget(every, overhead=overhead, clock=clock)
        self._histogram = NormHistogram()
        self._before: list[Tensor] = []
        self._num_updates = 0
        self._num_measured = 0
        self._sum = 0.0
        self._minimum = math.inf
        self._maximum = 0.0
        self._has_stepped = False
        self._cost = 0.0

    @property
    def summary(self) -> UpdateNormSummary | None:
        """The distribution so far, or None before the first measured update."""
        if self._num_measured == 0:
            return None
        edges, counts = self._histogram.edges_and_counts()
        return UpdateNormSummary(
            num_measured=self._num_measured,
            num_updates=self._num_updates,
            mean=self._sum / self._num_measured,
            minimum=self._minimum,
            maximum=self._maximum,
            quantiles={q: min(max(self._histogram.quantile(q), self._minimum), self._maximum) for q in _QUANTILES},
            bin_edges=edges,
            bin_counts=counts,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if is_sharded(trainer):
            raise ConfigError(
                f"UpdateNorms needs whole weights on every rank, and {type(trainer.strategy).__name__} shards them. "
                "Use strategy='ddp' or one device, or leave the callback out."
            )
        self._overhead_budget = OverheadBudget(self._every, overhead=self._overhead, clock=self._clock)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self._has_stepped = True
        # several optimizers, or LBFGS evaluating again: the first call of a batch has the weights from before
        if not trainer.is_global_zero or not self._overhead_budget.is_due or self._before:
            return
        start = self._clock()
        self._before = [p.detach().clone() for p in pl_module.parameters() if p.requires_grad]
        self._cost = self._clock() - start

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_end = ends_update(trainer, batch_idx) if pl_module.automatic_optimization else self._has_stepped
        if not is_end or not trainer.is_global_zero:
            return
        self._has_stepped = False
        self._num_updates += 1
        if self._before:
            start = self._clock()
            after = [p.detach() for p in pl_module.parameters() if p.requires_grad]
            torch._foreach_sub_(self._before, after)
            norm = math.sqrt(sq_norm(self._before))
            self._before = []
            self._add(norm)
            pl_module.log("bsopt/update_norm", norm, on_step=True, on_epoch=False, rank_zero_only=True)
            self._overhead_budget.add_cost(self._cost + self._clock() - start)
        self._overhead_budget.end_update()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._before = []

    def state_dict(self) -> dict[str, Any]:
        return {
            "bins": self._histogram.bins,
            "num_updates": self._num_updates,
            "num_measured": self._num_measured,
            "sum": self._sum,
            "minimum": self._minimum,
            "maximum": self._maximum,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._histogram = NormHistogram(state_dict["bins"])
        self._num_updates = state_dict["num_updates"]
        self._num_measured = state_dict["num_measured"]
        self._sum = state_dict["sum"]
        self._minimum = state_dict["minimum"]
        self._maximum = state_dict["maximum"]

    def _add(self, norm: float) -> None:
        if norm == 0.0 or not math.isfinite(norm):
            return
        self._histogram.add(norm)
        self._num_measured += 1
        self._sum += norm
        self._minimum = min(self._minimum, norm)
        self._maximum = max(self._maximum, norm)
