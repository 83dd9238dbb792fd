"""Is this batch size too small, about right or too large? One callback, one paragraph at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from bsopt.callbacks._advice_figure import plot_advice
from bsopt.callbacks._base import Callback, announce
from bsopt.callbacks._overhead_budget import DEFAULT_OVERHEAD
from bsopt.callbacks.gradient_noise_scale import GradientNoiseScale, check_measurable
from bsopt.callbacks.learning_rate_scaling import LearningRateScaling
from bsopt.callbacks.throughput_monitor import ThroughputMonitor
from bsopt.laws.batch_size_advice import Advice, advise

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["BatchSizeAdvisor"]

_Found = TypeVar("_Found", bound=Callback)


class BatchSizeAdvisor(Callback):
    """Says at the end of a fit whether the batch size was right, and what to try instead.

    Add it to an existing Trainer and train as usual. It holds a `GradientNoiseScale` and a `ThroughputMonitor`,
    whose docstrings tell hooks, costs and what ranks do, and logs what they log; where the Trainer has one of its own,
    that one's measurements are taken, and nothing is measured twice. It reads the learning rate in use, a
    `LearningRateScaling` beside it counted, and says which one to write where. The paragraph comes in `on_train_end`,
    on rank zero; `advice` is the same as a value (`bsopt.serialization.to_json` makes plain data of it), `figure()` as
    a plotly figure.

    Args:
        every: Measure every so many updates; None holds the cost below `overhead`.
        overhead: Share of the training time it may take where `every` is None.

    Raises:
        ConfigError: As in GradientNoiseScale.
    """

    def __init__(self, *, every: int | None = None, overhead: float = DEFAULT_OVERHEAD) -> None:
        self._noise = self._own_noise = GradientNoiseScale(every=every, overhead=overhead)
        self._throughput = self._own_throughput = ThroughputMonitor()
        self._lr: float | None = None
        self._optimizer = "sgd"
        self._scaling: LearningRateScaling | None = None

    @property
    def advice(self) -> Advice | None:
        """The advice as of now, or None before the first update."""
        if self._noise.global_batch_size == 0:
            return None
        size = self._noise.global_batch_size
        factor = self._factor_at if self._scaling is not None else None
        return advise(
            self._noise.estimate,
            batch_size=size,
            lr=None if self._lr is None else self._lr * self._factor_at(size),
            optimizer=self._optimizer,
            throughput=self._throughput.summary,
            lr_factor=factor,
            num_parts=self._noise.num_parts,
        )

    @property
    def _measuring(self) -> list[Callback]:
        """Those that this one holds and that measure: none that the Trainer has one of its own for."""
        return [own for own in (self._own_noise, self._own_throughput) if own in (self._noise, self._throughput)]

    def _factor_at(self, size: int) -> float:
        return 1.0 if self._scaling is None else self._scaling.factor_at(size, self._optimizer)

    def figure(self) -> go.Figure | None:
        """Return the advice as a plotly figure, or None before the first update."""
        advice = self.advice
        return plot_advice(advice) if advice is not None else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the noise scale can be measured, and see who measures."""
        if stage == "fit":
            check_measurable(trainer, pl_module, "BatchSizeAdvisor")
        self._noise = _beside(trainer, GradientNoiseScale) or self._own_noise
        self._throughput = _beside(trainer, ThroughputMonitor) or self._own_throughput
        self._scaling = _beside(trainer, LearningRateScaling)
        for own in self._measuring:
            own.setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start both measurements, and note the learning rate and the optimizer in use."""
        for own in self._measuring:
            own.on_train_start(trainer, pl_module)
        used = next((optimizer for optimizer in trainer.optimizers if optimizer.param_groups), None)
        if used is not None:  # Lightning puts one without groups in place of none
            group = used.param_groups[0]
            # the learning rate that a person would set: a scheduler keeps it in these
            self._lr = float(group.get("max_lr", group.get("initial_lr", group["lr"]))) or None
            self._optimizer = type(used).__name__

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an epoch of both measurements."""
        for own in self._measuring:
            own.on_train_epoch_start(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin a batch of both measurements."""
        for own in reversed(self._measuring):  # the clock is started first, so that it has all of a step
            own.on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the gradients."""
        for own in self._measuring:
            own.on_after_backward(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End a batch of both measurements."""
        for own in self._measuring:
            own.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop counting time as training."""
        for own in self._measuring:
            own.on_validation_start(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count time as training again."""
        for own in self._measuring:
            own.on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close an epoch's time."""
        for own in self._measuring:
            own.on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say the advice, on rank zero."""
        if self._own_throughput in self._measuring:
            self._own_throughput.on_train_end(trainer, pl_module)
        advice = self.advice
        if advice is not None:
            announce(advice.text)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the hooks off the parameters."""
        for own in self._measuring:
            own.on_exception(trainer, pl_module, exception)

    def state_dict(self) -> dict[str, Any]:
        """Return both measurements as plain data, for a checkpoint."""
        return {"noise": self._noise.state_dict(), "throughput": self._throughput.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the measurements of a checkpoint."""
        self._noise.load_state_dict(state_dict["noise"])
        self._throughput.load_state_dict(state_dict["throughput"])


def _beside(trainer: Trainer, kind: type[_Found]) -> _Found | None:
    """Return the Trainer's own callback of a kind, or None."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    return next((found for found in callbacks if isinstance(found, kind)), None)
