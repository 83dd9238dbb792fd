"""Answers as values: a choice, what it costs, and what to know before trusting it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.recommendation.notebook import answer_card
from bsopt.trial.plan import Plan

__all__ = ["GOALS", "Answer", "Choice", "Cost", "Goal", "Recommendation"]

Goal = Literal["quality", "largest", "fastest", "cheapest"]
GOALS: tuple[Goal, ...] = ("quality", "largest", "fastest", "cheapest")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one batch size costs on one placement, to the target or, without one, over the budget.

    Attributes:
        batch_size: Global, in samples.
        plan: How it is realised there.
        samples: Nominal samples that the training sees.
        seconds: Wall time.
        device_hours: The same times the devices, in hours.
        energy_joules: Of all devices; None where power wasn't measured.
    """

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
        batch_size: Global, in samples; the plan's.
        lr: Learning rate; the bounds are infinite where no law is fitted.
        plan: How the batch size is realised on the devices asked about.
        value: Expected value of a trial after the study's budget, or the best trial's with infinite bounds where no law
            is fitted; None where neither is known.
        warmup_samples: Samples over which to raise the learning rate from `lr` × `warmup_start`; 0 for none, None where
            the training set's size and the budget are unknown.
        warmup_start: Factor on the learning rate at the first update; 1 without a warm-up.
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
        study: The study's name.
        monitor: The metric's name.
        choice: None where no trial succeeded.
        alternatives: The choices for the other goals, where the data tell them.
        ties: Batch sizes as good as the best within noise, smallest first.
        caveats: Edges, other budgets, unidentified laws.
        pareto: Costs that no other placement or batch size beats in both time and device-hours, quickest first.
        critical_batch_size: In samples; None where no trials tell it.
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

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        chosen = (self.choice, *self.alternatives) if self.choice is not None else ()
        goals = [(choice.goal, str(choice.batch_size), f"{choice.lr.value:.3g}") for choice in chosen]
        return answer_card(self.sentence, self.caveats, goals, self.to_yaml())

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
        question: As people ask it.
        answer: With its numbers, or why it can't be told.
        basis: What the answer rests on; "not measured" where nothing does.
    """

    question: str
    answer: str
    basis: str
