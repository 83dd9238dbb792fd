"""What a study asks of a ladder; without PyTorch, which the study's own process does without."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LadderRequest"]


@dataclass(frozen=True, slots=True)
class LadderRequest:
    """What a study wants to know of its learning rate.

    Attributes:
        optimizer: The optimizer's name, by which the ladder begins.
        usual_lr: The default that the search would start from at the spec's batch size.
        training_steps: Updates of a full trial at that batch size; None where they aren't known.
        decays_to_end: Whether the rate decays until the last one; None to look at the module's schedulers.
        is_asked_for: Whether to measure whatever it costs and however usual the task looks.
    """

    optimizer: str
    usual_lr: float
    training_steps: float | None
    decays_to_end: bool | None
    is_asked_for: bool
