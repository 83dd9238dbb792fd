"""The mean loss on a fixed set of samples as a function of a module's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from bsopt.analysis.batches import Batch, fixed_batches, num_samples, to_device
from bsopt.analysis.isolation import untouched_random_state
from bsopt.analysis.losses import LossFunction, default_loss, silence_logging
from bsopt.errors import ConfigError, TaskError

__all__ = ["LossSurface", "Mode", "Progress"]

Mode: TypeAlias = Literal["eval", "train"]
Progress: TypeAlias = Callable[[int, int], None]
"""`progress(done, total)`, called after every evaluation that counts."""


class LossSurface:
    """f(x): the mean loss on a fixed set of samples at weights x, for as many x as one likes.

    It works on a copy of the module, so the module itself (weights, buffers, mode, gradients, metrics that a
    step updates) is never touched, whatever the loss does; the random state is put back after every
    evaluation. Each evaluation starts from the same seed and buffers, so f is a function also in train mode
    (dropout, batch statistics).

    `x` is all n weights in one flat tensor of shape [n], in the order of `names` and on the module's device;
    `tensors` are the same by name, each of its weight's shape, and `state` is a whole state dict of the module.

    Attributes:
        names: Of the n weights' tensors: those that require gradients, or all of floating point where none does
            (a module frozen for inference).
        origin: Their values, one flat tensor of shape [n].
        num_samples: In the fixed set.
    """

    def __init__(
        self,
        module: nn.Module,
        data: Iterable[Batch],
        *,
        loss: LossFunction | None = None,
        mode: Mode = "eval",
        max_samples: int | None = 2000,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        """Copy the module and read the samples.

        Args:
            module: Any torch module; a LightningModule brings its own loss (`losses.default_loss`).
            data: A `DataLoader` or batches; which samples are used is told by `batches.fixed_batches`.
            loss: A function of (module, batch) that returns the batch's mean loss.
            mode: "eval", or "train" for dropout and batch statistics as in training.
            max_samples: Size of the fixed set; None takes all.
            batch_size: Samples per forward pass.
            seed: Of the choice of samples and of every evaluation.

        Raises:
            ConfigError: No loss is known, no data, no weights, or a wrong argument.
        """
        if mode not in ("eval", "train"):
            raise ConfigError(f"mode must be 'eval' or 'train', got {mode!r}.")
        self._loss = loss or default_loss(module)
        self._seed = seed
        with torch.inference_mode(mode=False):
            with untouched_random_state(seed=seed):
                self._module = copy.deepcopy(module)
            silence_logging(self._module)
            self._module.train(mode == "train")
            floating = {name: p for name, p in self._module.named_parameters() if p.is_floating_point()}
            weights = {name: p for name, p in floating.items() if p.requires_grad} or floating
            if not weights:
                raise ConfigError(f"{type(module).__name__} has no floating-point parameters to analyse.")
            for weight in weights.values():
                weight.requires_grad_()
                weight.grad = None
            self.names = tuple(weights)
            self._weights = list(weights.values())
            self._device = self._weights[0].device
            self._dtype = torch.promote_types(torch.float32, self._weights[0].dtype)
            batches = fixed_batches(data, max_samples=max_samples, batch_size=batch_size, seed=seed)
            self._batches = [(num_samples(batch), to_device(batch, self._device)) for batch in batches]
            self.num_samples = sum(count for count, _ in self._batches)
            self._remember()
            if self._device.type == "cpu" and any(weight.ndim == 4 for weight in self._weights):
                self._try_channels_last()

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """The shapes of the weights' tensors, in the order of `names`."""
        return tuple(weight.shape for weight in self._weights)

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """Return a flat tensor of shape [n] as views named and shaped like the weights."""
        sizes = [weight.numel() for weight in self._weights]
        pieces = zip(self.names, torch.split(x, sizes), self.shapes, strict=True)
        return {name: piece.view(shape) for name, piece, shape in pieces}

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return tensors named like the weights as one flat tensor of shape [n]."""
        return torch.cat([tensors[name].detach().reshape(-1).to(self._device, self._dtype) for name in self.names])

    def loss(self, x: Tensor | None = None) -> float:
        """Return f(x), or f at the module's own weights: the mean over samples, summed in double precision."""
        with torch.inference_mode(mode=False), torch.no_grad():
            self._move_to(x)
            with untouched_random_state(seed=self._seed, device=self._device):
                total = sum(count * self._loss(self._module, batch).double() for count, batch in self._batches)
            self._restore_buffers()
        return float(total) / self.num_samples

    def loss_and_gradient(self, x: Tensor) -> tuple[float, Tensor]:
        """Return f(x) and ∇f(x), of shape [n]; zero where a weight plays no part in the loss."""
        total = 0.0
        with torch.inference_mode(mode=False), torch.enable_grad():
            gradient = torch.zeros_like(x)
            self._move_to(x)
            with untouched_random_state(seed=self._seed, device=self._device):
                for count, batch in self._batches:
                    loss = self._loss(self._module, batch)
                    parts = torch.autograd.grad(loss, self._weights, allow_unused=True, materialize_grads=True)
                    gradient.add_(torch.cat([part.reshape(-1) for part in parts]), alpha=count / self.num_samples)
                    total += count * float(loss.detach().double())
            self._restore_buffers()
        return total / self.num_samples, gradient

    def hessian_product(self, v: Tensor, x: Tensor | None = None) -> Tensor:
        """Return H·v, of shape [n], H the Hessian of f at x.

        By two passes backward, in about twice the memory of a training step.

        Args:
            v: A direction, of shape [n].
            x: Weights, of shape [n]; the module's own where it is None.
        """
        with torch.inference_mode(mode=False), torch.enable_grad():
            product = torch.zeros_like(v)
            self._move_to(x)
            with untouched_random_state(seed=self._seed, device=self._device):
                for count, batch in self._batches:
                    loss = self._loss(self._module, batch)
                    parts = torch.autograd.grad(
                        loss, self._weights, create_graph=True, allow_unused=True, materialize_grads=True
                    )
                    along = sum((part.reshape(-1) @ piece for part, piece in self._paired(parts, v)), v.new_zeros(()))
                    if along.requires_grad:  # else the loss is linear in the weights
                        parts = torch.autograd.grad(along, self._weights, allow_unused=True, materialize_grads=True)
                        product.add_(torch.cat([part.reshape(-1) for part in parts]), alpha=count / self.num_samples)
            self._restore_buffers()
        return product

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Move the origin and the buffers to a state dict's.

        Raises:
            RuntimeError: The state dict doesn't fit the module (torch's message names the keys).
        """
        with torch.inference_mode(mode=False), torch.no_grad():
            self._module.load_state_dict(state)
            self._remember()

    def estimate_statistics(self, batches: Iterable[Batch]) -> None:
        """Replace running statistics by their plain average over batches, as `torch.optim.swa_utils.update_bn` does.

        Only layers with running statistics are in train mode meanwhile. The new buffers are part of the
        surface from then on.
        """
        tracking = [part for part in self._module.modules() if getattr(part, "running_mean", None) is not None]
        mode, momenta = self._module.training, [part.momentum for part in tracking]
        with torch.inference_mode(mode=False), torch.no_grad():
            self._module.eval()
            for part in tracking:
                part.reset_running_stats()  # type: ignore[operator]
                part.momentum = None  # type: ignore[assignment]
                part.train()
            with untouched_random_state(seed=self._seed, device=self._device):
                for batch in batches:
                    self._loss(self._module, to_device(batch, self._device))
            for part, momentum in zip(tracking, momenta, strict=True):
                part.momentum = momentum
            self._module.train(mode)
            self._remember()

    def _paired(self, parts: Sequence[Tensor], v: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Pair each weight's tensor with its piece of a flat one."""
        return zip(parts, torch.split(v, [weight.numel() for weight in self._weights]), strict=True)

    def _try_channels_last(self) -> None:
        """Lay filters out channels-last where the module runs so: its convolutions are twice as fast on a CPU.

        A module that takes a `view` of a feature map doesn't, and gets its layout back.
        """
        self._lay_out(torch.channels_last)
        try:
            with torch.no_grad(), untouched_random_state(seed=self._seed):
                self._loss(self._module, self._batches[0][1])
        except (RuntimeError, TaskError):  # if the layout isn't why, the first evaluation says so
            self._lay_out(torch.contiguous_format)
        self._restore_buffers()

    def _lay_out(self, memory_format: torch.memory_format) -> None:
        for weight in self._module.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=memory_format)

    def _move_to(self, x: Tensor | None) -> None:
        values = self.split(self.origin if x is None else x)
        with torch.no_grad():
            for weight, value in zip(self._weights, values.values(), strict=True):
                weight.copy_(value)

    def _remember(self) -> None:
        self.origin = self.flatten(dict(zip(self.names, self._weights, strict=True)))
        self._buffers = [buffer.detach().clone() for buffer in self._module.buffers()]

    def _restore_buffers(self) -> None:
        with torch.no_grad():
            for buffer, value in zip(self._module.buffers(), self._buffers, strict=True):
                buffer.copy_(value)
