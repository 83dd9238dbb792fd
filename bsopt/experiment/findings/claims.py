"""The findings of Chang & Pathak 2020 ("Effect of Batch Size on Neural Net Training"), each as a comparison.

Beside them stand the measurable claims of two guides: "How to choose batch size in deep learning?" (2022) and "Batch
Size Machine Learning Optimization".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bsopt.experiment.findings.agreement import Agreement
from bsopt.experiment.findings.comparisons import BestLrGrows, Comparison, GapClosed, LargerWins, Ratio, Trend
from bsopt.experiment.findings.table import Table

__all__ = ["FINDINGS", "Finding", "Kind"]


Kind: TypeAlias = Literal["ratio", "fraction", "exponent"]
"""What kind of number an effect is; "no effect" is a ratio of 1, a fraction of ½ (or 1½), an exponent of 0."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim of the article, and the comparison that tests it.

    Attributes:
        key: A short name.
        claim: A sentence.
        article: Where it is said, with the article's own numbers.
        compare: From a table to what it says of the claim; raises `UntestableError` or `TooFewSeedsError` where it
            can't.
        kind: Of its effect.
    """

    key: str
    claim: str
    article: str
    compare: Callable[[Table], Comparison]
    kind: Kind = "ratio"


_SHARPNESS = ("sharpness", "sharpness_subspace", "adaptive_sharpness", "top_curvature")

FINDINGS: tuple[Finding, ...] = (
    Finding(
        "worse_minima",
        "At a fixed learning rate, larger batches reach worse minima.",
        "figure 6: validation loss 0.344 at 32, 0.395 at 256",
        Trend("fixed_lr", "best_val_loss", "grows").compare,
    ),
    Finding(
        "slower_descent",
        "At a fixed learning rate, the training loss of larger batches decreases more slowly per epoch.",
        "figure 5",
        Trend("fixed_lr", "epochs_to_train_loss", "grows").compare,
    ),
    Finding(
        "faster_epochs",
        "Larger batches need fewer seconds per epoch.",
        "figure 7: 12.4 s at 32, 7.7 s at 256",
        Trend("fixed_lr", "seconds_per_epoch", "shrinks").compare,
    ),
    Finding(
        "more_epochs",
        "At a fixed learning rate, larger batches need more epochs to converge.",
        "figure 7: 158 epochs at 32, 958 at 256",
        Trend("fixed_lr", "epochs_to_best", "grows").compare,
    ),
    Finding(
        "longer_training",
        "At a fixed learning rate, larger batches take longer to converge, on one device.",
        "figure 7: almost four times as long at 256 as at 32",
        Trend("fixed_lr", "seconds_to_best", "grows").compare,
    ),
    Finding(
        "travel_less",
        "At a fixed learning rate, larger batches end closer to the initial weights.",
        "figure 10",
        Trend("fixed_lr", "distance_from_init", "shrinks").compare,
    ),
    Finding(
        "shorter_epochs",
        "At a fixed learning rate, larger batches travel less in an epoch.",
        "figure 12: 0.15 to 0.4 at 32, 0.02 to 0.04 at 256",
        Trend("fixed_lr", "epoch_distance", "shrinks").compare,
    ),
    Finding(
        "epochs_drift_apart",
        "At a fixed learning rate, the smallest batch's lead in distance per epoch grows during training.",
        "figure 12, right: the ratio of the epoch distances increases over time",
        Trend("fixed_lr", "epoch_distance_growth", "shrinks").compare,
    ),
    Finding(
        "smaller_updates",
        "At a fixed learning rate, larger batches make smaller updates.",
        "figure 13: median norm 3.3e-3 at 32, 1.5e-3 at 256",
        Trend("fixed_lr", "update_norm", "shrinks").compare,
    ),
    Finding(
        "sharper",
        "At a fixed learning rate, larger batches end in sharper minima.",
        "figure 21",
        Agreement("sharpness", tuple(Trend("fixed_lr", name, "grows") for name in _SHARPNESS)).compare,
    ),
    Finding(
        "steeper_line",
        "On the line between the minimizers, the loss varies more around the largest batch's.",
        "figure 18",
        Ratio("fixed_lr", "smallest", "line_rise", "grows").compare,
    ),
    Finding(
        "narrower_contours",
        "In filter-normalised directions, the loss rises more steeply around the largest batch's minimizer.",
        "figure 22",
        Ratio("fixed_lr", "smallest", "contour_rise", "grows").compare,
    ),
    Finding(
        "scaling_closes_gap",
        "Scaling the learning rate linearly closes most of the gap in validation loss.",
        "figure 24: 0.395 becomes 0.352 at 256, against 0.345 at 32",
        GapClosed("best_val_loss", "grows").compare,
        kind="fraction",
    ),
    Finding(
        "scaling_saves_epochs",
        "Scaling the learning rate linearly lets large batches converge in fewer epochs.",
        "figure 25",
        Ratio("scaled_lr", "fixed_lr", "epochs_to_best", "shrinks").compare,
    ),
    Finding(
        "scaling_saves_time",
        "With the scaled learning rate, the largest batch converges in less time than the smallest.",
        "figure 25: 2197 s at 256, 3156 s at 32",
        Ratio("scaled_lr", "smallest", "seconds_to_best", "shrinks").compare,
    ),
    Finding(
        "scaling_flattens",
        "Scaling the learning rate linearly makes large-batch minima flatter.",
        "figure 26",
        Agreement("sharpness", tuple(Ratio("scaled_lr", "fixed_lr", name, "shrinks") for name in _SHARPNESS)).compare,
    ),
    Finding(
        "still_sharper",
        "Even with the scaled learning rate, the largest batch ends sharper than the smallest.",
        "figure 26: 4 to 7 against 1.14",
        Agreement("sharpness", tuple(Ratio("scaled_lr", "smallest", name, "grows") for name in _SHARPNESS)).compare,
    ),
    Finding(
        "scaling_restores_distance",
        "Scaling the learning rate linearly closes most of the gap in distance from the initial weights.",
        "figure 27",
        GapClosed("distance_from_init", "shrinks").compare,
        kind="fraction",
    ),
    Finding(
        "larger_wins_at_higher_lr",
        "At a higher fixed learning rate, a larger batch beats the smallest.",
        "figure 28: at 0.08, 64 beats 32",
        LargerWins("higher_lr", "best_val_loss").compare,
    ),
    Finding(
        "best_lr_grows",
        "The best learning rate grows with the batch size.",
        "figure 29: 0.01 at 32, 0.08 at the others",
        BestLrGrows().compare,
        kind="exponent",
    ),
    Finding(
        "wider_gap",
        "At a fixed learning rate and equal training loss, larger batches have a higher validation loss.",
        "introduction: similar training error, but a wider generalization gap (Keskar et al. 2016)",
        Trend("fixed_lr", "val_loss_at_train_loss", "grows").compare,
    ),
    Finding(
        "more_overfitting",
        "At a fixed learning rate and equally many epochs, larger batches overfit more.",
        "both guides: larger batch sizes have a higher risk of overfitting",
        Trend("fixed_lr", "overfitting", "grows").compare,
    ),
    Finding(
        "better_utilisation",
        "Larger batches use the device better: more training samples per second.",
        'the guide "Batch Size Machine Learning Optimization": GPU utilization is higher at 64 to 256 than at 16 to 32',
        Trend("fixed_lr", "samples_per_second", "grows").compare,
    ),
    Finding(
        "more_memory",
        "Larger batches need more memory.",
        "both guides: larger batches require more memory to store the activations and gradients",
        Trend("fixed_lr", "peak_memory", "grows").compare,
    ),
)
