"""One detector of memory that ran out, for errors at hand and for errors of other processes."""

from __future__ import annotations

import pytest
import torch

from bsopt.errors import TaskError
from bsopt.training.device import is_out_of_memory
from bsopt.training.error_text import says_out_of_memory

OUT_OF_MEMORY = [
    ("MemoryError", ""),
    ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB"),
    ("_ArrayMemoryError", "Unable to allocate 8.00 TiB for an array"),
    ("RuntimeError", "CUDA error: out of memory"),
    ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]
ANYTHING_ELSE = [
    ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied"),
    ("ValueError", "memory_format must be given"),
    ("RuntimeError", "CUDA error: device-side assert triggered"),
    ("KeyError", "'memory'"),
]


@pytest.mark.parametrize(("name", "text"), OUT_OF_MEMORY)
def test_memory_that_ran_out_is_known_by_name_and_text(name: str, text: str) -> None:
    assert says_out_of_memory(name, text)
    assert says_out_of_memory(name, f"{name}: {text} (model.py, line 3)")


@pytest.mark.parametrize(("name", "text"), ANYTHING_ELSE)
def test_other_errors_are_not_taken_for_memory(name: str, text: str) -> None:
    assert not says_out_of_memory(name, text)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (type("_ArrayMemoryError", (MemoryError,), {})("Unable to allocate"), True),  # as numpy's
        *((RuntimeError(text), True) for name, text in OUT_OF_MEMORY if name == "RuntimeError"),
        (RuntimeError("shape mismatch"), False),
        (ValueError("the file says: out of memory"), False),
        (TaskError("building model.Net failed: out of memory"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_at_hand_must_also_be_of_a_kind_that_tells_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
