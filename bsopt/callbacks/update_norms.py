"""The norms of the updates: how far each optimizer step moves the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bsopt.callbacks._base import Callback, refuse_sharded
from bsopt.callbacks._batches import ends_update
from bsopt.callbacks._norms import sq_norm
from bsopt.callbacks._overhead_budget import DEFAULT_OVERHEAD, OverheadBudget
from bsopt.laws.update_norms import NormHistogram, UpdateNormSummary, summarize_update_norms

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["UpdateNorms"]


class UpdateNorms(Callback):
    """Measures ‖θ_{t+1} − θ_t‖, the size of the updates, as a streaming histogram with quantiles.

    Copies the weights in `on_before_optimizer_step` and compares them in `on_train_batch_end`. A measured update costs
    one temporary copy of the trainable weights on their device and two passes over them. With `every=1` that is done
    at every step: little beside the step of a convolutional network, but it may double the time of a large embedding or
    linear model with small batches. By default the interval is chosen so that measuring takes 1 % of the training
    time. Only rank zero measures; under DDP the weights are the same everywhere. Logs `bsopt/update_norm`. With manual
    optimization, an update is all that happens within one batch. Steps that AMP skips move nothing and are left out.

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
        self._clock = clock
        self._overhead_budget = OverheadBudget(every, overhead=overhead, clock=clock)
        self._histogram = NormHistogram()
        self._weights: list[Tensor] = []
        self._before: list[Tensor] = []
        self._num_updates = 0
        self._has_stepped = False
        self._cost = 0.0

    @property
    def summary(self) -> UpdateNormSummary | None:
        """The distribution so far, or None before the first measured update."""
        return summarize_update_norms(self._histogram, num_updates=self._num_updates)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse sharded weights, before any training."""
        if stage != "fit":
            return
        refuse_sharded(trainer, "UpdateNorms")
        self._overhead_budget = self._overhead_budget.restarted()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note which weights are trained, before a step may switch off those of its other optimizers for a while."""
        if trainer.is_global_zero and self._overhead_budget.is_due:
            self._weights = [p for p in pl_module.parameters() if p.requires_grad]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Copy the weights where this update is one to measure."""
        self._has_stepped = True
        # several optimizers, or LBFGS evaluating again: the first call of a batch has the weights from before
        if not trainer.is_global_zero or not self._overhead_budget.is_due or self._before:
            return
        start = self._clock()
        self._before = [p.detach().clone() for p in self._weights]
        self._cost = self._clock() - start

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compare the weights with the copy, count the norm and log it."""
        is_end = ends_update(trainer, batch, batch_idx) if pl_module.automatic_optimization else self._has_stepped
        if not is_end or not trainer.is_global_zero:
            return
        self._has_stepped = False
        self._num_updates += 1
        if self._before:
            start = self._clock()
            torch._foreach_sub_(self._before, [p.detach() for p in self._weights])
            norm = math.sqrt(sq_norm(self._before))
            self._before = []
            if norm > 0.0 and math.isfinite(norm):
                self._histogram.add(norm)
            pl_module.log("bsopt/update_norm", norm, on_step=True, on_epoch=False, rank_zero_only=True)
            self._overhead_budget.add_cost(self._cost + self._clock() - start)
        self._overhead_budget.end_update()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give back the copy's memory."""
        self._before = []

    def state_dict(self) -> dict[str, Any]:
        """Return the histogram as plain data, for a checkpoint."""
        return {"norms": self._histogram.state(), "num_updates": self._num_updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the histogram of a checkpoint."""
        self._histogram = NormHistogram(**state_dict["norms"])
        self._num_updates = state_dict["num_updates"]
