"""Copies of a module that compute the same with the same trained parameters and leave no trace in it."""

from __future__ import annotations

import io
import pickle
import types
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

__all__ = ["Shadows"]

# used as they are: code, and data, which a step only reads
_SHARED = (type, types.ModuleType, Dataset, DataLoader, weakref.ReferenceType, *weakref.ProxyTypes)

MOST_OTHERS = 4
"""Parameters that aren't trained are cloned up to so many times the bytes of the trained ones: a teacher is as large as
its student, and a frozen model below a small head or adapters may fill the memory."""


class Shadows:
    """Makes shadows of a module: one pickle of everything that its modules hold, loaded once per shadow.

    What is bound to a module is bound to its shadow: methods, hooks, and the callables that torch.compile made,
    which run uncompiled. Tensors and random generators are cloned, and so are the parameters that aren't trained,
    unless they are many: a step may move them itself, as the moving average of a teacher. What can't be copied, such as
    an open file, is missing in a shadow, so that a step that uses it fails.

    Args:
        module: The module.
        trained: The parameters that the shadows share with it.
        trainer: Shared with the shadows, and not looked into.
    """

    def __init__(self, module: nn.Module, trained: Sequence[Tensor], trainer: Trainer | None = None) -> None:
        ids = {id(parameter) for parameter in trained}
        others = [parameter for parameter in module.parameters() if id(parameter) not in ids]
        has_many_others = _num_bytes(others) > MOST_OTHERS * _num_bytes(trained)
        self._shared = [*trained, *others] if has_many_others else list(trained)
        self._kept: list[object] = []
        self._trainer = trainer
        self._index: dict[int, int] = {}
        self._modules: list[nn.Module] = []
        self.persistent_id(module)
        # the list grows while states refer to more modules
        self._pickled = self._dumped([self._copyable(_state(each)) for each in self._modules])

    def new(self) -> nn.Module:
        """Return a fresh shadow."""
        made = [object.__new__(type(module)) for module in self._modules]
        for module, shadow in zip(self._modules, made, strict=True):
            # methods of nn.Module look for these while the states are loaded
            shadow.__dict__.update(_parameters={}, _buffers={}, _modules={}, training=module.training)
        stand_ins: dict[int, object] = {id(parameter): parameter for parameter in self._shared}
        stand_ins |= {id(module): shadow for module, shadow in zip(self._modules, made, strict=True)}
        states = _Unpickler(self._pickled, self._kept, stand_ins).load()
        for shadow, state in zip(made, states, strict=True):
            _fill(shadow, state)
        return made[0]

    def persistent_id(self, value: object) -> int | None:
        """Return the number of a value that isn't pickled, or None."""
        if not (self._is_shared(value) or isinstance(value, (Tensor, nn.Module, torch.Generator))):
            return None
        if id(value) not in self._index:
            self._index[id(value)] = len(self._kept)
            self._kept.append(value)
            if isinstance(value, nn.Module):
                self._modules.append(value)
        return self._index[id(value)]

    def _is_shared(self, value: object) -> bool:
        if isinstance(value, types.FunctionType):
            return not hasattr(value, "_torchdynamo_orig_callable")
        if isinstance(value, types.BuiltinFunctionType):
            return value.__self__ is None or isinstance(value.__self__, types.ModuleType)
        return value is self._trainer or isinstance(value, _SHARED)

    def _copyable(self, state: dict[str, Any]) -> dict[str, Any]:
        try:
            self._dumped(state)
        except Exception:  # noqa: BLE001  # pickling runs anybody's code
            return {name: value for name, value in state.items() if self._is_copyable(value)}
        return state

    def _is_copyable(self, value: object) -> bool:
        try:
            self._dumped(value)
        except Exception:  # noqa: BLE001
            return False
        return True

    def _dumped(self, value: object) -> bytes:
        file = io.BytesIO()
        _Pickler(file, self).dump(value)
        return file.getvalue()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, shadows: Shadows) -> None:
        super().__init__(file, protocol=5)
        self._shadows = shadows

    def persistent_id(self, obj: object) -> int | None:
        return self._shadows.persistent_id(obj)

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.MethodType):
            return types.MethodType, (obj.__func__, obj.__self__)
        if isinstance(obj, types.FunctionType):
            return _same, (obj._torchdynamo_orig_callable,)  # type: ignore[attr-defined]
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes, kept: list[object], made: Mapping[int, object]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._kept = kept
        self._made = dict(made)

    def persistent_load(self, pid: int) -> object:
        value = self._kept[pid]
        if id(value) not in self._made:
            self._made[id(value)] = _cloned(value)
        return self._made[id(value)]


def _state(module: nn.Module) -> dict[str, Any]:
    if _wraps_its_methods(module):
        return dict(module.__getstate__())  # type: ignore[no-untyped-call]
    is_compiled = isinstance(module, torch._dynamo.OptimizedModule)
    left_out = {"_compiled_call_impl"} | ({"forward", "_forward", "dynamo_ctx"} if is_compiled else set())
    return {name: value for name, value in module.__dict__.items() if name not in left_out}


def _fill(shadow: nn.Module, state: dict[str, Any]) -> None:
    if _wraps_its_methods(shadow):
        shadow.__setstate__(state)  # type: ignore[no-untyped-call]
    else:
        shadow.__dict__.update(state)
    if isinstance(shadow, torch._dynamo.OptimizedModule):
        shadow.__dict__["forward"] = shadow._modules["_orig_mod"]
    if hasattr(type(shadow), "training_step"):
        shadow.__dict__["log"] = shadow.__dict__["log_dict"] = _log_nothing


def _wraps_its_methods(module: nn.Module) -> bool:
    """Return whether only its own __setstate__ binds wrapped methods to a copy, as with torchmetrics."""
    is_torch = type(module).__setstate__.__module__.startswith("torch.") or nn.utils.parametrize.is_parametrized(module)
    return type(module).__setstate__ is not nn.Module.__setstate__ and not is_torch


def _num_bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _cloned(value: object) -> object:
    if isinstance(value, torch.Generator):
        return torch.Generator(device=value.device).set_state(value.get_state())
    if type(value) is nn.Parameter:
        return nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad)
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return value.detach().clone()
    return value


def _same(value: object) -> object:
    return value


def _log_nothing(*args: object, **kwargs: object) -> None:
    """Stand in for LightningModule.log and log_dict."""
