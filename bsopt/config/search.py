"""The block `search`: the ranges of batch size, learning rate and further parameters, and who searches."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from bsopt.config.fields import MOST_ROWS, Block, check_range
from bsopt.laws.lattice import check_lattice, lattice_sizes

_PARAM_PATH = re.compile(r"(model|data)(\.\w+)+")


class BatchSizeSpace(Block):
    """The range of the global batch size."""

    low: int = Field(8, ge=1, le=10**9)
    high: int = Field(1024, ge=1, le=10**9)
    lattice: Literal["pow2", "any"] | dict[Literal["multiple_of"], int] = "pow2"

    @model_validator(mode="after")
    def _ordered(self) -> BatchSizeSpace:
        check_range(self.low, self.high)
        check_lattice(self.lattice)
        num_sizes = 0 if self.lattice == "any" else len(lattice_sizes(self.lattice, self.low, self.high))
        if num_sizes > MOST_ROWS:
            raise ValueError(
                f"{num_sizes:,} batch sizes are on the lattice {self.lattice!r}, more than {MOST_ROWS:,}: take a "
                "larger multiple, or lattice: any"
            )
        if not self.sizes():
            raise ValueError(f"no batch size between {self.low} and {self.high} is on the lattice {self.lattice!r}")
        return self

    def sizes(self) -> tuple[int, ...]:
        """Return the batch sizes on the lattice, smallest first; for `any`, the two ends."""
        if self.lattice == "any":
            return (self.low,) if self.low == self.high else (self.low, self.high)
        return tuple(lattice_sizes(self.lattice, self.low, self.high))

    def __contains__(self, size: int) -> bool:
        """Whether a batch size may be trained."""
        return self.low <= size <= self.high if self.lattice == "any" else size in self.sizes()


class ReferenceConfig(Block):
    """Where a learning rate known to be good belongs."""

    batch_size: int = Field(ge=1)
    lr: float = Field(gt=0)


class LrSpace(Block):
    """The range of the learning rate and the prior on how it moves with the batch size."""

    low: float = Field(1e-4, gt=0)
    high: float = Field(1.0, gt=0)
    rule: Literal["linear", "sqrt", "saturating", "power", "surge", "none"] | None = Field(
        None, description="how the best learning rate moves with the batch size; by the optimizer where it isn't given"
    )
    reference: ReferenceConfig | None = Field(None, description="a batch size and the learning rate that you use there")
    measure: Literal["auto", "always", "never"] = Field(
        "auto",
        description="whether a few steps at some learning rates say where to start, before the first trial and where "
        "no reference is given; auto: where that costs at most 5 % of one training or the usual default seems off",
    )

    @model_validator(mode="after")
    def _ordered(self) -> LrSpace:
        check_range(self.low, self.high)
        return self


class RangeSpace(Block):
    """A further parameter: a range of numbers or a list of choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = Field(None, gt=0)
    integer: bool = False
    choices: list[bool | int | float | str] | None = Field(None, max_length=1000)

    @model_validator(mode="after")
    def _complete(self) -> RangeSpace:
        if self.choices is not None:
            if self.low is not None or self.high is not None:
                raise ValueError("give choices, or low and high, not both")
            if self.step is not None or self.log or self.integer:
                raise ValueError("choices take no log, step or integer")
            if not self.choices:
                raise ValueError("choices is empty")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        check_range(self.low, self.high)
        if self.log and self.low <= 0:
            raise ValueError("a log range must be positive")
        if self.log and self.step is not None:
            raise ValueError("a log range takes no step")
        if self.step is not None and self.step > self.high - self.low:
            raise ValueError(f"a step of {self.step:g} leads out of the range {self.low:g} to {self.high:g}")
        if self.integer and any(value % 1 for value in (self.low, self.high, self.step or 1)):
            raise ValueError("an integer range has whole numbers as low, high and step")
        return self


class SearchConfig(Block):
    """What is searched, and by whom."""

    batch_size: BatchSizeSpace = BatchSizeSpace()
    lr: LrSpace = LrSpace()
    params: dict[str, RangeSpace] = Field(
        default_factory=dict, description="further parameters by the path they are set at, e.g. model.weight_decay"
    )
    optimizer: str | None = Field(
        None,
        description="the optimizer's name, which decides defaults of rule and reference; by default the task's own",
    )
    sampler: Literal["scaling", "tpe", "gp", "random", "cmaes", "qmc"] = "scaling"
    prior_from: str | None = Field(
        None,
        description="name of an earlier study in the same storage whose ridge is the prior, and whose learning curves "
        "the pruner knows if the objective is the same",
    )

    @field_validator("params")
    @classmethod
    def _paths(cls, value: dict[str, RangeSpace]) -> dict[str, RangeSpace]:
        for path in value:
            if path in ("batch_size", "lr"):
                raise ValueError(f"{path} has a block of its own")
            if not _PARAM_PATH.fullmatch(path):
                raise ValueError(f"{path!r}: name an init argument by its path, e.g. model.{path} or data.{path}")
        return value
