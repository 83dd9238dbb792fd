"""What is asked of a variant of an experiment, each as a comparison with the study's own settings within a seed.

In the table, the runs of a variant stand in arms of their own: `fixed_lr/NAME` beside `fixed_lr`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from bsopt.experiment.findings.claims import Finding
from bsopt.experiment.findings.comparisons import Comparison
from bsopt.experiment.findings.contrasts import Group
from bsopt.experiment.findings.table import MEASUREMENTS, Table, UntestableError

__all__ = ["NO_WORSE", "Place", "Product", "arm_of_variant", "findings_of_variant"]

NO_WORSE = 1.05
"""A loss that is at most so many times another's counts as no worse."""

Place: TypeAlias = tuple[str, Literal["all", "smallest", "largest"], float]
"""An arm, which of its batch sizes, and the power with which their (geometric) mean enters a product."""


def arm_of_variant(arm: str, variant: str | None) -> str:
    """Return the name under which a variant's runs of an arm stand in the table."""
    return f"{arm}/{variant}" if variant else arm


@dataclass(frozen=True, slots=True)
class Product:
    """A product of powers of a measurement in some groups lies below a limit.

    Attributes:
        measurement: What is compared.
        places: Its factors; "all" are the batch sizes that all these arms have.
        words: The product in words, `{what}` for the measurement.
        limit: Below it the finding is right; 1 is no effect.
    """

    measurement: str
    places: tuple[Place, ...]
    words: str
    limit: float = 1.0

    def compare(self, table: Table) -> Comparison:
        """Return the product, tested against its limit.

        Raises:
            UntestableError: The table lacks a group.
            TooFewSeedsError: A group has fewer runs than a test needs.
        """
        arms = {arm: table.groups(arm, self.measurement) for arm, _, _ in self.places}
        sizes = sorted(set.intersection(*(set(groups) for groups in arms.values())))
        if len(sizes) < 2:
            raise UntestableError(f"{' and '.join(arms)} have {len(sizes)} batch sizes in common, two are needed")
        chosen = {"all": sizes, "smallest": sizes[:1], "largest": sizes[-1:]}
        groups: list[Group] = []
        coefficients, places = [], []
        for arm, which, power in self.places:
            for size in chosen[which]:
                groups.append({seed: math.log(value) for seed, value in arms[arm][size].items()})
                coefficients.append(power / len(chosen[which]))
                places.append((arm, size))
        found = table.contrast(self.measurement, groups, coefficients)
        tested = replace(found, estimate=found.estimate - math.log(self.limit))
        what = MEASUREMENTS[self.measurement].partition(",")[0]
        return Comparison(
            effect=math.exp(found.estimate),
            interval=lambda confidence: _exp(found.interval(confidence)),
            p=tested.p,
            agrees=tested.estimate < 0,
            tests=(tested,),
            quantity=self.words.format(what=what, smallest=sizes[0], largest=sizes[-1]),
            places=tuple(places),
            num_looks=table.num_looks(places),
            remark=f"It is held against {self.limit:g}." if self.limit != 1.0 else "",
        )


def findings_of_variant(variant: str, arms: Sequence[str], *, is_precision: bool) -> tuple[Finding, ...]:
    """Return what is asked of a variant.

    Of a precision: whether it saves time and memory and costs no accuracy. Of anything else, say a warm-up or batch
    normalisation over fewer samples: whether it helps the largest batch, whether the batch size matters less with it,
    and whether scaling the learning rate holds with it.

    Args:
        variant: Its name.
        arms: Those that were trained with it.
        is_precision: Whether nothing but the precision is changed.
    """
    first, finding = arms[0], partial(_finding, variant)
    both: tuple[Place, ...] = ((arm_of_variant(first, variant), "all", 1.0), (first, "all", -1.0))
    over = f"{{what}} with {variant} over that without, the mean over batch sizes"
    if is_precision:
        guide = (
            'the guide "Batch Size Machine Learning Optimization": mixed precision can reduce memory usage without '
            "sacrificing accuracy"
        )
        return (
            finding("no_worse", f"With {variant}, the validation loss is at most 5 % higher.", guide,
                    Product("best_val_loss", both, over, NO_WORSE)),
            finding("faster_epochs", f"With {variant}, an epoch takes less time.", guide,
                    Product("seconds_per_epoch", both, over)),
            finding("less_memory", f"With {variant}, training needs less memory.", guide,
                    Product("peak_memory", both, over)),
        )  # fmt: skip
    return (*_of_largest(variant, first), *(_of_scaling(variant) if "scaled_lr" in arms else ()))


def _of_largest(variant: str, arm: str) -> tuple[Finding, ...]:
    own = arm_of_variant(arm, variant)
    rate = {"scaled_lr": " at the scaled learning rate", "higher_lr": " at the higher learning rate"}.get(arm, "")
    ends: tuple[Place, ...] = (
        (own, "largest", 1.0), (own, "smallest", -1.0), (arm, "largest", -1.0), (arm, "smallest", 1.0)
    )  # fmt: skip
    helps, smaller = (
        _finding(
            variant,
            "helps_largest",
            f"With {variant}, the largest batch reaches a lower validation loss{rate}.",
            "not in the article",
            Product(
                "best_val_loss",
                ((own, "largest", 1.0), (arm, "largest", -1.0)),
                f"{{what}} at {{largest}}{rate} with {variant} over that without",
            ),
        ),
        _finding(
            variant,
            "smaller_gap",
            f"With {variant}, the batch size matters less to the validation loss.",
            "not in the article",
            Product(
                "best_val_loss", ends, f"{{what}} at {{largest}} over that at {{smallest}}, with {variant} over without"
            ),
        ),
    )
    return (helps,) if arm == "scaled_lr" else (helps, smaller)  # there the latter is `scaling_gains`


def _of_scaling(variant: str) -> tuple[Finding, ...]:
    own, arm = arm_of_variant("scaled_lr", variant), "scaled_lr"
    with_it: tuple[Place, ...] = ((own, "largest", 1.0), (own, "smallest", -1.0))
    without: tuple[Place, ...] = ((arm, "largest", -1.0), (arm, "smallest", 1.0))
    return (
        _finding(
            variant,
            "scaling_holds",
            f"With {variant}, linear scaling holds: the largest batch comes within 5 % of the smallest's loss.",
            "not in the article",
            Product(
                "best_val_loss",
                with_it,
                f"{{what}} at {{largest}} with the scaled learning rate and {variant} over that at {{smallest}}",
                NO_WORSE,
            ),
        ),
        _finding(
            variant,
            "scaling_gains",
            f"With {variant}, linear scaling holds better than without.",
            "not in the article",
            Product(
                "best_val_loss",
                (*with_it, *without),
                f"{{what}} at {{largest}} with the scaled learning rate over that at {{smallest}}, with {variant} over "
                "without",
            ),
        ),
    )


def _finding(variant: str, key: str, claim: str, article: str, product: Product) -> Finding:
    return Finding(f"{variant}:{key}", claim, article, product.compare)


def _exp(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = (math.exp(min(end, 700.0)) for end in ends)
    return low, high
