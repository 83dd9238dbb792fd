"""The learning rate of a known batch size, carried over to the batch size in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bsopt.callbacks._base import Callback, announce
from bsopt.callbacks._batches import ends_update, num_samples
from bsopt.callbacks._ranks import over_ranks
from bsopt.errors import ConfigError
from bsopt.laws.scaling import (
    Reference,
    default_rule,
    scaled_adam,
    scaled_learning_rate,
    scaled_weight_decay,
    warmup_factor,
)

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer
    from torch.utils.hooks import RemovableHandle

__all__ = ["LearningRateScaling"]


class LearningRateScaling(Callback):
    """Scales the learning rate from a reference batch size to the current global batch size.

    The configured learning rate is the one that is good at `reference_batch_size`. Two hooks of the optimizer multiply
    `lr` in every parameter group right before its step and put it back right after it. So a scheduler of any kind
    keeps working on the configured values, and a checkpoint doesn't depend on the batch size. Lightning's
    LearningRateMonitor therefore shows the configured values; the ones in use are logged as `bsopt/lr` (first group)
    and `bsopt/lr_factor`, as often as the trainer logs. Costs microseconds per step. Ranks add up their batch sizes
    once, at the first batch, and then all do the same. It works with manual optimization.

    The global batch size is the first batch's samples over all ranks × accumulate_grad_batches; where Lightning's
    GradientAccumulationScheduler changes it, the factor follows. A run that resumes inside an epoch at its last batch,
    which may be a smaller one, keeps its checkpoint's batch size for it and takes that of the next epoch's first batch.

    Args:
        reference_batch_size: Global batch size, in samples, for which the configured learning rate was chosen.
        rule: `linear`, `sqrt`, `saturating`, `power`, `surge`, `none`, or a function from B / reference_batch_size to
            the factor. None takes `sqrt` for adaptive optimizers and `linear` for others.
        noise_batch_size: B_n in samples for `saturating` and `surge`.
        exponent: For `power`.
        warmup_samples: Samples over which the factor rises from 1 (Goyal et al. 2017, section 2.2); a factor below 1
            needs no warm-up and gets none. A warm-up by the project's own scheduler comes on top.
        scale_betas: Also move Adam's betas and eps (Malladi et al. 2022).
        scale_weight_decay: Also move `weight_decay` so that its timescale in epochs stays (Wang & Aitchison 2024).

    Raises:
        ConfigError: A wrong argument; at the start of a fit, `scale_betas` with an optimizer that has none.
    """

    def __init__(
        self,
        reference_batch_size: int,
        *,
        rule: str | Callable[[float], float] | None = None,
        noise_batch_size: float | None = None,
        exponent: float = 0.5,
        warmup_samples: int = 0,
        scale_betas: bool = False,
        scale_weight_decay: bool = False,
    ) -> None:
        if warmup_samples < 0:
            raise ConfigError(f"warmup_samples must be at least 0, got {warmup_samples}.")
        if noise_batch_size is not None and not noise_batch_size > 0:
            raise ConfigError(f"noise_batch_size must be above 0, got {noise_batch_size}.")
        self._reference = Reference(reference_batch_size, 1.0)
        self._rule = rule
        self._noise_batch_size = noise_batch_size
        self._exponent = exponent
        self._warmup_samples = warmup_samples
        self._scale_betas = scale_betas
        self._scale_weight_decay = scale_weight_decay
        self._samples_seen = 0
        self._samples_per_pass: int | None = None  # one forward pass on every rank
        self._is_measured = False
        self._global_batch_size = reference_batch_size
        self._configured: dict[int, list[dict[str, Any]]] = {}
        self._handles: list[RemovableHandle] = []
        self._in_use: tuple[float, float] | None = None
        if rule is not None:
            self._target("sgd")  # an unknown name is refused here

    @property
    def global_batch_size(self) -> int:
        """The batch size the learning rate is scaled to, in samples."""
        return self._global_batch_size

    def factor_at(self, global_batch_size: int, optimizer: str) -> float:
        """Return what the configured learning rate is multiplied by at a batch size, after the warm-up.

        Args:
            global_batch_size: In samples.
            optimizer: The optimizer's name, which decides the rule where none was given.
        """
        return scaled_learning_rate(
            float(global_batch_size),
            reference=self._reference,
            rule=self._rule if self._rule is not None else default_rule(optimizer),
            noise_batch_size=self._noise_batch_size,
            exponent=self._exponent,
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put a hook before and after each optimizer's step."""
        self._is_measured = False
        self._is_announced = False
        if not any(optimizer.param_groups for optimizer in trainer.optimizers):
            announce("LearningRateScaling: the module has no optimizer, so nothing is scaled.")
        for optimizer in trainer.optimizers:
            if not optimizer.param_groups:  # what Lightning puts in place of none
                continue
            if self._scale_betas and not any("betas" in group for group in optimizer.param_groups):
                raise ConfigError(
                    f"scale_betas is on, but {type(optimizer).__name__} has no betas; leave it off for this optimizer."
                )
            self._handles += [
                optimizer.register_step_pre_hook(self._apply),
                optimizer.register_step_post_hook(self._restore),
            ]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Find the global batch size in use, and say once what it does to the learning rate."""
        size = num_samples(batch)
        if not self._is_measured:
            self._measure(trainer, size, may_be_rest=batch_idx > 0 and trainer.is_last_batch)
        assert self._samples_per_pass is not None
        self._global_batch_size = self._samples_per_pass * trainer.accumulate_grad_batches
        if not self._is_announced:
            self._is_announced = True
            for optimizer in trainer.optimizers:
                if optimizer.param_groups:
                    announce(self._describe(optimizer))
        # ranks count what they agreed on, so that their warm-ups stay together without a word per step
        self._samples_seen += size if trainer.world_size == 1 else self._samples_per_pass

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the learning rate in use and its factor, every `log_every_n_steps` updates of the trainer."""
        is_update = not pl_module.automatic_optimization or ends_update(trainer, batch, batch_idx)
        every = getattr(trainer, "log_every_n_steps", 0)  # 0 logs nothing
        # the step that self.log writes: updates before this one, or batches where the module steps by itself
        step = trainer.global_step - 1 if pl_module.automatic_optimization else trainer.fit_loop.total_batch_idx
        if is_update and every and (step + 1) % every == 0 and self._in_use is not None:
            for logger in trainer.loggers:
                logger.log_metrics(self._tell(trainer), step=step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the last ones in `trainer.callback_metrics`."""
        self._tell(trainer)

    def _tell(self, trainer: Trainer) -> dict[str, float]:
        if self._in_use is None:  # no update yet
            return {}
        metrics = dict(zip(("bsopt/lr", "bsopt/lr_factor"), self._in_use, strict=True))
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
        return metrics

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the configured values back, before a checkpoint is made of what is left of the fit."""
        self._release(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the configured values back and take the hooks off."""
        self._release(trainer)

    def _release(self, trainer: Trainer) -> None:
        for optimizer in trainer.optimizers:
            self._restore(optimizer)
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._configured = {}

    def state_dict(self) -> dict[str, Any]:
        """Return samples seen and batch size, for a checkpoint: the warm-up goes on from there."""
        return {"samples_seen": self._samples_seen, "samples_per_pass": self._samples_per_pass}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the samples and the batch size of a checkpoint."""
        self._samples_seen = state_dict["samples_seen"]
        self._samples_per_pass = state_dict.get("samples_per_pass")  # older checkpoints have none

    def _measure(self, trainer: Trainer, size: int, *, may_be_rest: bool) -> None:
        """Take this batch's size over all ranks; of what may be an epoch's rest, only until the next batch."""
        total, num_rests = over_ranks(trainer, [size, float(may_be_rest)], "sum")
        self._is_measured = num_rests == 0
        if self._is_measured or self._samples_per_pass is None:
            self._samples_per_pass = round(total)

    def _target(self, optimizer: str) -> float:
        return self.factor_at(self._global_batch_size, optimizer)

    def _factor(self, target: float) -> float:
        if target <= 1.0:
            return target
        ramp = warmup_factor(self._samples_seen, warmup_samples=self._warmup_samples, start=1.0 / target)
        return target * ramp

    def _apply(self, optimizer: Optimizer, *_: object) -> None:
        if id(optimizer) in self._configured:
            return
        target = self._target(type(optimizer).__name__)
        factor = self._factor(target)
        ratio = self._global_batch_size / self._reference.batch_size
        saved = []
        for group in optimizer.param_groups:
            changes: dict[str, Any] = {"lr": group["lr"] * factor}
            if self._scale_betas and "betas" in group:
                beta1, beta2 = group["betas"]
                adam = scaled_adam(
                    self._global_batch_size,
                    reference_batch_size=self._reference.batch_size,
                    beta1=float(beta1),
                    beta2=float(beta2),
                    eps=group["eps"],
                )
                changes |= {"betas": (adam.beta1, adam.beta2), "eps": adam.eps}
            if self._scale_weight_decay and group.get("weight_decay"):
                decay = group["weight_decay"]
                changes["weight_decay"] = scaled_weight_decay(decay, batch_size_ratio=ratio, lr_ratio=target)
            saved.append({name: _value(group[name]) for name in changes})
            _set(group, changes)
        self._configured[id(optimizer)] = saved
        self._in_use = (float(optimizer.param_groups[0]["lr"]), factor)

    def _restore(self, optimizer: Optimizer, *_: object) -> None:
        for group, values in zip(optimizer.param_groups, self._configured.pop(id(optimizer), []), strict=False):
            _set(group, values)

    def _describe(self, optimizer: Optimizer) -> str:
        name = type(optimizer).__name__
        rule = self._rule if self._rule is not None else default_rule(name)
        target = self._target(name)
        base = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        lrs = ", ".join(f"{lr:.4g} to {lr * target:.4g}" for lr in sorted(set(base)))
        words = (
            f"LearningRateScaling: batch {self._reference.batch_size} to {self._global_batch_size}, "
            f"{rule if isinstance(rule, str) else 'own'} rule: {name}'s lr times {target:.4g} ({lrs})"
        )
        if self._warmup_samples and target > 1.0:
            words += f", warming up over {self._warmup_samples} samples"
        also = [n for n, on in (("betas and eps", self._scale_betas), ("weight decay", self._scale_weight_decay)) if on]
        return words + (f"; scales {' and '.join(also)}, too." if also else ".")


def _value(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _set(group: dict[str, Any], values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(group[name], Tensor):
            group[name].copy_(value)  # captured and compiled optimizers hold on to this tensor
        else:
            group[name] = value
