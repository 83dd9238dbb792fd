"""Answers as values: a choice, what it costs, and what to know before trusting it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.recommendation.notebook import answer_card
from bsopt.recommendation.settings import UserCode, as_python, as_yaml
from bsopt.trial.plan import Plan

__all__ = [
    "GOALS",
    "Answer",
    "Choice",
    "Cost",
    "FrontPoint",
    "Goal",
    "NextRun",
    "Recommendation",
    "Refusal",
    "SizeFinding",
    "SizeState",
]

Goal = Literal["quality", "largest", "fastest", "cheapest", "frugal", "asked"]
GOALS: tuple[Goal, ...] = ("quality", "largest", "fastest", "cheapest", "frugal")
"""What a study may be asked for; "asked" is the goal of a batch size that the user named."""


class SizeState(str, Enum):
    """What is known of a batch size beside the best one."""

    TESTED = "tested"
    SUPPORTED = "supported"
    WORSE = "worse"
    OPEN = "open"
    NOT_TESTED = "not tested"

    @property
    def words(self) -> str:
        """The same as people read it.

        >>> SizeState.SUPPORTED.words
        'as good, by its neighbours'
        """
        return _STATE_WORDS[self]


_STATE_WORDS = {
    SizeState.TESTED: "as good, tested",
    SizeState.SUPPORTED: "as good, by its neighbours",
    SizeState.WORSE: "worse",
    SizeState.OPEN: "can't be told yet",
    SizeState.NOT_TESTED: "not tested",
}


@dataclass(frozen=True, slots=True)
class SizeFinding:
    """What is known of one batch size, at its own best learning rate.

    Attributes:
        batch_size: Global, in samples.
        state: "tested": as good as the best, and a trial ran to its end there near its best learning rate.
            "supported": as good, by sizes below and above that were tested. "worse". "open": trials ran to their end
            there, and it can't be told yet. "not tested": none did.
        num_complete: Trials that ran to their end there.
        chance: Probability that it is as good, within the margin; NaN where no law is fitted.
        gap: How much worse than the recommended one its value is, in the objective's unit; None where no law is fitted.
        trial: Number of the best of its complete trials.
        lr: The best learning rate there; None where no law is fitted.
        value: What one more training at that rate would show, with infinite bounds where the noise between seeds isn't
            known; None where no law is fitted.
        costs: What it takes, on each placement whose time can be predicted.
        is_tuned: Whether one of the complete trials had a learning rate near the best there, as far as a law says.
    """

    batch_size: int
    state: SizeState
    num_complete: int
    chance: float
    gap: Estimate | None = None
    trial: int | None = None
    lr: Estimate | None = None
    value: Estimate | None = None
    costs: tuple[Cost, ...] = ()
    is_tuned: bool = True

    @property
    def words(self) -> str:
        """Its state, and what that rests on, as people read it.

        >>> SizeFinding(64, SizeState.WORSE, num_complete=0, chance=0.01).words
        'worse, by the fit'
        """
        if self.state is SizeState.WORSE:
            return "worse, tested" if self.num_complete and self.is_tuned else "worse, by the fit"
        if self.state is SizeState.OPEN and not self.is_tuned:
            return "no trial near its best rate"
        return self.state.words


@dataclass(frozen=True, slots=True)
class Refusal:
    """A goal that the data can't answer, and why."""

    goal: Goal
    reason: str


@dataclass(frozen=True, slots=True)
class NextRun:
    """A trial that would settle something.

    Attributes:
        batch_size: Global, in samples.
        lr: Learning rate.
        reason: What it would settle.
        further: The values of the study's further parameters.
        repeats: Number of the trial that it repeats over a fresh seed; None for a setting of its own.
        seconds: What it would take; None where no trial was timed.
        device_hours: The same times the devices.
    """

    batch_size: int
    lr: float
    reason: str
    further: Mapping[str, Any]
    repeats: int | None = None
    seconds: float | None = None
    device_hours: float | None = None


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A trial of a study of several objectives that no other beats in all of them."""

    batch_size: int
    lr: float
    values: tuple[float, ...]
    trial: int


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
        value: Expected value of a trial after the study's budget, or the best trial's where no law is fitted; None
            where neither is known. The bounds are infinite where no law is fitted or the noise between seeds isn't
            known.
        warmup_samples: Samples over which to raise the learning rate from `lr` × `warmup_start`; 0 for none, None where
            the training set's size and the budget are unknown.
        warmup_start: Factor on the learning rate at the first update; 1 without a warm-up.
        companions: What else should move with the batch size, relative to the best trial's: momentum, Adam's betas and
            eps, and the factor on a decoupled weight decay that keeps its timescale.
        cost: To the target or over the budget; None where times were not measured.
        reasons: Why, a sentence each.
        doubts: What isn't measured of it, a sentence each; told wherever its settings are.
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
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer to a goal, the answers to the other goals, and what to know before trusting them.

    Attributes:
        status: `ok`, or why there is no answer yet or only the best trial so far.
        sentence: The answer with its uncertainty, in one sentence.
        study: The study's name.
        monitor: The metric's name.
        choice: None where no trial succeeded, and with several objectives.
        alternatives: The choices for the other goals, where the data tell them.
        refusals: The other goals, with the reason.
        sizes: What is known of each batch size, smallest first.
        margin: Difference in value up to which a batch size counts as good as the best; None without a trial.
        next_runs: The trials that would settle what is open.
        caveats: Edges, other budgets, unidentified laws.
        pareto: Costs that no other placement or batch size beats in both time and device-hours, quickest first.
        critical_batch_size: In samples; None where no trials tell it.
        front: With several objectives, the trials that no other beats in all of them, by batch size.
        code: Where the study's code takes the choice.
    """

    status: FitStatus
    sentence: str
    study: str
    monitor: str
    choice: Choice | None = None
    alternatives: tuple[Choice, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    sizes: tuple[SizeFinding, ...] = ()
    margin: float | None = None
    next_runs: tuple[NextRun, ...] = ()
    caveats: tuple[str, ...] = ()
    pareto: tuple[Cost, ...] = ()
    critical_batch_size: Estimate | None = None
    front: tuple[FrontPoint, ...] = ()
    code: UserCode = field(default_factory=UserCode)

    @property
    def ties(self) -> tuple[int, ...]:
        """Batch sizes that were tested to be as good as the best, it among them, smallest first."""
        return tuple(found.batch_size for found in self.sizes if found.state is SizeState.TESTED)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        chosen = (self.choice, *self.alternatives) if self.choice is not None else ()
        goals = [(choice.goal, str(choice.batch_size), f"{choice.lr.value:.3g}") for choice in chosen]
        return answer_card(self.sentence, self.caveats, goals, self.to_yaml())

    def to_yaml(self) -> str:
        """Return the choice as a LightningCLI configuration, or as a script's arguments; empty without a choice."""
        if self.choice is None:
            return ""
        comments = (f"# {line}\n" for line in (self.sentence, *self.choice.doubts))
        return "".join(comments) + as_yaml(self.code, self.choice.lr.value, self.choice.plan)

    def to_lightning(self) -> str:
        """Return the choice as Python to paste; empty without a choice."""
        if self.choice is None:
            return ""
        doubts = "".join(f"# {doubt}\n" for doubt in self.choice.doubts)
        return doubts + as_python(self.code, self.choice.lr.value, self.choice.plan)


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
