"""Norms of gradients and updates, exact enough in half precision and for sparse tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["norm", "sq_norm", "sum_of_squares"]


def norm(tensor: Tensor) -> Tensor:
    """Return the Euclidean norm of one tensor, as a tensor on its device; half precision is widened."""
    values = _dense(tensor.detach())
    result: Tensor = torch.linalg.vector_norm(values, dtype=torch.float32 if _is_half(values) else None)
    return result


def sq_norm(tensors: Sequence[Tensor]) -> float:
    """Return the squared Euclidean norm of all tensors together; 0 for none. Waits for the device once."""
    dense = [_dense(tensor) for tensor in tensors]
    is_half = any(_is_half(tensor) for tensor in dense)
    if not dense:
        return 0.0
    return sum_of_squares(torch._foreach_norm(dense, dtype=torch.float32) if is_half else torch._foreach_norm(dense))


def sum_of_squares(norms: Sequence[Tensor]) -> float:
    """Return the sum of the squares of scalars, in double precision; 0 for none."""
    return float(torch.stack(list(norms)).cpu().double().square().sum()) if norms else 0.0


def _dense(tensor: Tensor) -> Tensor:
    """Return the values of a sparse tensor, those of the same place summed up; any other as it is."""
    return tensor.coalesce().values() if tensor.is_sparse else tensor


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float16, torch.bfloat16)
