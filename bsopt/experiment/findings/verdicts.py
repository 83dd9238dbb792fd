"""Whether a study's runs support the article's findings, contradict them, or can't tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from bsopt.errors import ConfigError
from bsopt.experiment.findings.claims import FINDINGS, Finding
from bsopt.experiment.findings.comparisons import Estimate
from bsopt.experiment.findings.contrasts import TooFewSeedsError, holm
from bsopt.experiment.findings.table import Run, Table, UntestableError

__all__ = ["FINDINGS", "Finding", "Outcome", "Run", "Verdict", "verdicts"]


class Outcome(str, Enum):
    """What the data say about a finding."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    CANT_TELL = "can't tell"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One finding, judged.

    Attributes:
        key: The finding's short name.
        claim: What it says.
        article: Where, with the article's own numbers.
        outcome: Supported or contradicted where the corrected p is below alpha, by the effect's direction.
        quantity: The effect in words; None, like all below, where the comparison couldn't be made.
        effect: A ratio, a fraction or an exponent.
        interval: The effect's 95 % interval, not corrected.
        p: Two-sided.
        corrected_p: After Holm's correction over all findings that could be tested.
        num_seeds: That the comparison rests on.
        test: Its name.
        sentence: All of this, to be read.
    """

    key: str
    claim: str
    article: str
    outcome: Outcome
    sentence: str
    quantity: str | None = None
    effect: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    corrected_p: float | None = None
    num_seeds: int | None = None
    test: str | None = None


def verdicts(
    runs: Sequence[Run],
    *,
    findings: Sequence[Finding] = FINDINGS,
    alpha: float = 0.05,
    min_seeds: int = 5,
) -> tuple[Verdict, ...]:
    """Judge every finding by the runs of a study.

    Each finding is one comparison over seeds (`findings`), two-sided. The p-values of those that could be tested
    are corrected together (Holm 1979), so that the chance of any false "supported" or "contradicted" is at
    most alpha. That nothing was found isn't evidence of no effect: the interval says how large one may be.

    Args:
        runs: The table; runs in several arms are listed once for each.
        findings: What to judge.
        alpha: Of the whole family, in (0, 1).
        min_seeds: Fewest runs per compared group, at least 2.

    Raises:
        ConfigError: An argument out of range, or runs that contradict each other.
    """
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha must lie between 0 and 1, got {alpha}.")
    if min_seeds < 2:
        raise ConfigError(f"min_seeds must be at least 2 for any interval, got {min_seeds}.")
    table = Table(runs, min_seeds=min_seeds)
    outcomes = [_compare(finding, table) for finding in findings]
    corrected = iter(holm([found.p for found in outcomes if isinstance(found, Estimate)]))
    return tuple(
        _judge(finding, found, next(corrected), alpha) if isinstance(found, Estimate) else _untested(finding, found)
        for finding, found in zip(findings, outcomes, strict=True)
    )


def _compare(finding: Finding, table: Table) -> Estimate | str:
    try:
        return finding.compare(table)
    except (UntestableError, TooFewSeedsError) as reason:
        return str(reason)


def _judge(finding: Finding, found: Estimate, corrected_p: float, alpha: float) -> Verdict:
    if corrected_p >= alpha:
        outcome = Outcome.CANT_TELL
    else:
        outcome = Outcome.SUPPORTED if found.agrees else Outcome.CONTRADICTED
    sentence = (
        f"{outcome.value.capitalize()}: {found.quantity} is {found.effect:.3g} (95 % interval {_span(found.interval)}; "
        f"{found.test} over {found.num_seeds} seeds, p = {found.p:.2g}, {corrected_p:.2g} after Holm's correction)."
    )
    return Verdict(
        key=finding.key,
        claim=finding.claim,
        article=finding.article,
        outcome=outcome,
        sentence=sentence,
        quantity=found.quantity,
        effect=found.effect,
        interval=found.interval,
        p=found.p,
        corrected_p=corrected_p,
        num_seeds=found.num_seeds,
        test=found.test,
    )


def _untested(finding: Finding, reason: str) -> Verdict:
    return Verdict(
        key=finding.key,
        claim=finding.claim,
        article=finding.article,
        outcome=Outcome.CANT_TELL,
        sentence=f"{Outcome.CANT_TELL.value.capitalize()}: {reason}.",
    )


def _span(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low:.3g} to {high:.3g}" if math.isfinite(low) and math.isfinite(high) else "unbounded"
