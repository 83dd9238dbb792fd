"""What a variant of a designed experiment may say: the same runs with some settings changed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bsopt.config.fields import Block

__all__ = ["VariantConfig"]

_WHERE_IT_RUNS = ("accelerator", "devices", "num_nodes", "strategy", "sync_batchnorm")


class VariantConfig(Block):
    """Runs of the design once more, with the same batch sizes, learning rates and seeds and other settings."""

    params: dict[str, Any] = Field(
        default_factory=dict, description="init arguments by path, e.g. model.warmup_epochs: 5, in place of the task's"
    )
    trainer: dict[str, Any] = Field(
        default_factory=dict, description="Trainer arguments, e.g. precision: bf16-mixed, in place of the study's"
    )
    ghost_batch_norm: int | None = Field(
        None,
        ge=2,
        description="BatchNorm layers take their statistics in training over so many samples at a time, whatever the "
        "batch size",
    )
    arms: tuple[Literal["fixed_lr", "scaled_lr", "higher_lr"], ...] = Field(
        ("fixed_lr", "scaled_lr"), min_length=1, description="whose runs are trained once more"
    )

    @field_validator("trainer")
    @classmethod
    def _same_place(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in _WHERE_IT_RUNS:
            if key in value:
                raise ValueError(
                    f"trainer.{key} is the same for all variants, which are compared in time and memory: set it under "
                    "trainer: of the study"
                )
        return value

    @model_validator(mode="after")
    def _something(self) -> VariantConfig:
        if not (self.params or self.trainer or self.ghost_batch_norm):
            raise ValueError("a variant changes something: give params, trainer or ghost_batch_norm")
        return self

    @property
    def is_precision(self) -> bool:
        """Whether it changes nothing but the numbers that the Trainer computes with."""
        return set(self.trainer) == {"precision"} and not self.params and self.ghost_batch_norm is None

    @property
    def precision(self) -> str | None:
        """The Trainer's precision where the variant changes it."""
        return str(self.trainer["precision"]) if "precision" in self.trainer else None
