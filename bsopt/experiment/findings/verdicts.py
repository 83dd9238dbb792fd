"""Whether a study's runs support the article's findings, contradict them, or can't tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from bsopt.errors import ConfigError
from bsopt.experiment.findings.claims import FINDINGS, Finding, Kind
from bsopt.experiment.findings.comparisons import Comparison
from bsopt.experiment.findings.contrasts import Judged, TooFewSeedsError, holm
from bsopt.experiment.findings.power import MOST_SEEDS, POWER, seeds_to_decide
from bsopt.experiment.findings.table import Run, Table, UntestableError

__all__ = ["FINDINGS", "Finding", "Outcome", "Run", "Verdict", "verdicts"]

_NO_EFFECT: Mapping[Kind, tuple[float, ...]] = {"ratio": (1.0,), "fraction": (0.5, 1.5), "exponent": (0.0,)}


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
        kind: What kind of number the effect is.
        sentence: All of this, to be read.
        quantity: The effect in words; None, like all below, where the comparison couldn't be made.
        effect: A ratio, a fraction or an exponent.
        interval: The effect's, at the level at which its test stands after the correction: it leaves out "no effect"
            exactly where the outcome isn't "can't tell".
        p: Two-sided, of this one test.
        corrected_p: After Holm's correction over all findings that could be tested, and for earlier looks.
        num_seeds: That the comparison rests on.
        test: Its name.
        num_looks: How often it was judged with fewer runs, plus one.
        seeds_to_decide: Seeds in all that would decide with `power.POWER`, if the effect is as large as seen here;
            None where it is decided, or where more than `power.MOST_SEEDS` were needed.
        places: (arm, batch size) of the groups where they would be trained.
    """

    key: str
    claim: str
    article: str
    outcome: Outcome
    kind: Kind
    sentence: str
    quantity: str | None = None
    effect: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    corrected_p: float | None = None
    num_seeds: int | None = None
    test: str | None = None
    num_looks: int | None = None
    seeds_to_decide: int | None = None
    places: tuple[tuple[str, int], ...] = ()


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
    most alpha, as far as a few seeds' means are as good as normal: scatter that is strongly skewed and several times
    wider at one batch size makes it larger (`scripts/benchmark_findings` says by how much). That nothing was found
    isn't evidence of no effect: the interval says how large one may be.

    Runs that were added because a finding couldn't be told are one more look at it. The p of the k-th look counts
    2^(k−1)-fold: the looks after the first have alpha once more between them, so that a false "supported", which is
    half of the two-sided error, stays below alpha over all looks.

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
    tested = [found for found in outcomes if isinstance(found, Comparison)]
    judged = iter(holm([min(1.0, _weight(found) * found.p) for found in tested], alpha=alpha))
    return tuple(
        _judge(finding, found, next(judged), alpha) if isinstance(found, Comparison) else _untested(finding, found)
        for finding, found in zip(findings, outcomes, strict=True)
    )


def _weight(found: Comparison) -> float:
    """Return how many times the p of a comparison counts for its looks."""
    return 2.0 ** (found.num_looks - 1)


def _compare(finding: Finding, table: Table) -> Comparison | str:
    try:
        return finding.compare(table)
    except (UntestableError, TooFewSeedsError) as reason:
        return str(reason)


def _judge(finding: Finding, found: Comparison, judged: Judged, alpha: float) -> Verdict:
    level = judged.alpha / _weight(found)
    interval, needed = found.interval(1.0 - level), None
    if judged.p >= alpha:
        outcome = Outcome.CANT_TELL
        needed = seeds_to_decide(found.tests, alpha=level / 2.0 / found.multiplicity) if found.is_decidable else None
    else:
        outcome = Outcome.SUPPORTED if found.agrees else Outcome.CONTRADICTED
    looks = f", look {found.num_looks}" if found.num_looks > 1 else ""
    effect, span = _told(found.effect, interval, finding.kind)
    sentence = (
        f"{outcome.value.capitalize()}: {found.quantity} is {effect} ({span} and "
        f"p = {judged.p:.2g} after Holm's correction; {found.tests[0].test} over {found.num_seeds} seeds{looks}, "
        f"p = {found.p:.2g} alone)."
    )
    further = [found.remark, _needs(found, needed) if outcome is Outcome.CANT_TELL else ""]
    return Verdict(
        key=finding.key,
        claim=finding.claim,
        article=finding.article,
        outcome=outcome,
        kind=finding.kind,
        sentence=" ".join([sentence, *(words for words in further if words)]),
        quantity=found.quantity,
        effect=found.effect,
        interval=interval,
        p=found.p,
        corrected_p=judged.p,
        num_seeds=found.num_seeds,
        test=found.tests[0].test,
        num_looks=found.num_looks,
        seeds_to_decide=needed,
        places=found.places,
    )


def _needs(found: Comparison, needed: int | None) -> str:
    """Return how many seeds would decide, in a sentence."""
    if not found.is_decidable:
        return "More seeds don't decide that."
    if needed is None:
        return f"If it is no larger than that, even {MOST_SEEDS} seeds may not decide."
    return f"If it is as large as that, {needed} seeds would decide ({POWER:.0%} power)."


def _untested(finding: Finding, reason: str) -> Verdict:
    return Verdict(
        key=finding.key,
        claim=finding.claim,
        article=finding.article,
        outcome=Outcome.CANT_TELL,
        kind=finding.kind,
        sentence=f"{Outcome.CANT_TELL.value.capitalize()}: {reason}.",
    )


def _told(effect: float, interval: tuple[float, float], kind: Kind) -> tuple[str, str]:
    """Return an effect and its interval in words, with as many digits as tell the ends from each other and from none.

    >>> _told(1.2, (1.1, 1.3), "ratio")
    ('1.2', '95 % interval 1.1 to 1.3')
    >>> _told(1.0002, (1.0001, 1.0003), "ratio")
    ('1.0002', '95 % interval 1.0001 to 1.0003')
    >>> _told(1.103, (1.00012, 1.2), "ratio")  # rounded to 1, it would touch "no effect"
    ('1.103', '95 % interval 1.0001 to 1.2')
    """
    low, high = interval
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{effect:.3g}", "95 % interval unbounded"

    def is_clear(digits: int) -> bool:
        ends = [f"{end:.{digits}g}" for end in interval]
        is_apart = f"{effect:.{digits}g}" not in ends
        return is_apart and all(float(end) != none for end in ends for none in _NO_EFFECT[kind])

    digits = next((n for n in range(3, 7) if is_clear(n)), 6)
    return f"{effect:.{digits}g}", f"95 % interval {low:.{digits}g} to {high:.{digits}g}"
