"""Answers as values: a choice, what it costs, and what to know before trusting it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.trial.plan import Plan

__all__ = [
    "BUDGET_EXPONENT",
    "GOALS",
    "SMALL_BATCH_NORM",
    "TIE_CHANCE",
    "WARMUP_EPOCHS",
    "WARMUP_FROM",
    "WARMUP_SHARE",
    "Answer",
    "Choice",
    "Cost",
    "Goal",
    "Recommendation",
]


Goal = Literal["quality", "largest", "fastest", "cheapest"]
GOALS: tuple[Goal, ...] = ("quality", "largest", "fastest", "cheapest")

TIE_CHANCE = 0.5
"""Chance of being within two noise deviations of the best from which a batch size ties with it."""
WARMUP_EPOCHS, WARMUP_SHARE, WARMUP_FROM = 5.0, 0.1, 1.5
"""Goyal et al. 2017: 5 epochs; at most a tenth of the budget, where the rate is 1.5 times the smallest size's."""
SMALL_BATCH_NORM = 16
BUDGET_EXPONENT = 0.65
"""B_best ∝ budget^0.65: 128 to 1,024 sequences from 4 to 100 B tokens (a 215 M language model; FACTS of step laws)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one batch size costs on one placement, to the target or, without one, over the budget."""

    batch_size: int
    plan: Plan
    samples: Estimate
    seconds: Estimate
    device_hours: Estimate
    energy_joules: Estimate | None


@dataclass(frozen=True, slots=True)
class Choice:
    """One batch size with all that running it takes.

    Attributes:
        goal: What it is best for.
        lr: Learning rate; the bounds are infinite where no law is fitted.
        value: Expected value of the metric after the study's budget.
        warmup_samples: Samples over which to raise the learning rate from `lr` × `warmup_start`; 0 for none, None where
            the training set's size and the budget are unknown.
        companions: What else should move with the batch size, relative to the best trial's: momentum, Adam's betas and
            eps, and the factor on a decoupled weight decay that keeps its timescale.
        cost: To the target or over the budget; None where times were not measured.
        reasons: Why, a sentence each.
    """

    goal: Goal
    batch_size: int
    lr: Estimate
    plan: Plan
    value: Estimate | None = None
    warmup_samples: float | None = None
    warmup_start: float = 1.0
    companions: Mapping[str, float] | None = None
    cost: Cost | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer to a goal, the answers to the other goals, and what to know before trusting them.

    Attributes:
        status: `ok`, or why there is no answer yet or only the best trial so far.
        sentence: The answer with its uncertainty, in one sentence.
        choice: None where no trial succeeded.
        alternatives: The choices for the other goals, where the data tell them.
        ties: Batch sizes as good as the best within noise.
        caveats: Edges, other budgets, unidentified laws.
        pareto: Costs that no other placement or batch size beats in both time and device-hours.
    """

    status: FitStatus
    sentence: str
    study: str
    monitor: str
    choice: Choice | None = None
    alternatives: tuple[Choice, ...] = ()
    ties: tuple[int, ...] = ()
    caveats: tuple[str, ...] = ()
    pareto: tuple[Cost, ...] = ()
    critical_batch_size: Estimate | None = None

    @property
    def finalists(self) -> tuple[tuple[int, float], ...]:
        """Batch sizes and learning rates worth repeating over fresh seeds: the choice's and the alternatives'."""
        choices = [c for c in (self.choice, *self.alternatives) if c is not None]
        return tuple({c.batch_size: (c.batch_size, c.lr.value) for c in reversed(choices)}.values())[::-1]

    def to_yaml(self) -> str:
        """Return the choice as a LightningCLI configuration; empty without a choice."""
        if self.choice is None:
            return ""
        plan = self.choice.plan
        lines = [
            f"# {self.sentence}",
            "model:",
            f"  lr: {self.choice.lr.value:.4g}",
            "data:",
            f"  batch_size: {plan.micro_batch_size}",
            "trainer:",
            f"  accumulate_grad_batches: {plan.accumulate_grad_batches}",
            f"  devices: {plan.num_devices}",
            f"  num_nodes: {plan.num_nodes}",
        ]
        return "\n".join(lines) + "\n"

    def to_lightning(self) -> str:
        """Return the choice as Python to paste; empty without a choice."""
        if self.choice is None:
            return ""
        plan = self.choice.plan
        placement = f"devices={plan.num_devices}, num_nodes={plan.num_nodes}"
        return (
            f"model = YourModule(lr={self.choice.lr.value:.4g})\n"
            f"data = YourDataModule(batch_size={plan.micro_batch_size})  # {plan} samples per optimizer update\n"
            f"trainer = Trainer(accumulate_grad_batches={plan.accumulate_grad_batches}, {placement})\n"
            "trainer.fit(model, datamodule=data)\n"
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A question people ask about batch sizes, answered from one study.

    Attributes:
        basis: What the answer rests on; "not measured" where nothing does.
    """

    question: str
    answer: str
    basis: str
