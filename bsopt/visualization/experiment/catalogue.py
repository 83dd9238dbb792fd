"""The article's figures by the name that the command line and the report use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import plotly.graph_objects as go

from bsopt.visualization.experiment.by_batch_size import plot_experiment_by_batch_size
from bsopt.visualization.experiment.curves import plot_experiment_curves
from bsopt.visualization.experiment.devices import plot_experiment_devices
from bsopt.visualization.experiment.epoch_distance import plot_experiment_epoch_distance
from bsopt.visualization.experiment.landscape import plot_experiment_landscape
from bsopt.visualization.experiment.layers import plot_experiment_layers
from bsopt.visualization.experiment.line import plot_experiment_line
from bsopt.visualization.experiment.lr_grid import plot_experiment_lr
from bsopt.visualization.experiment.update_norms import plot_experiment_update_norms
from bsopt.visualization.experiment.verdicts import plot_experiment_verdicts
from bsopt.visualization.study_data import Source

__all__ = ["EXPERIMENT_FIGURES", "ExperimentFigure"]


@dataclass(frozen=True, slots=True)
class ExperimentFigure:
    """One of the article's figures: call it with a study.

    Attributes:
        article: Its number in Chang & Pathak 2020; None for a figure that the article doesn't have.
        heading: What it shows.
        how: How to read it.
        draw: The plot function, with its choice of arms and measurements.
    """

    article: int | None
    heading: str
    how: str
    draw: Callable[[Source], go.Figure]

    def __call__(self, study: Source) -> go.Figure:
        """Draw it; a sentence where the study has nothing to show."""
        return self.draw(study)


def _by_size(measurements: tuple[str, ...], *arms: str, title: str) -> Callable[[Source], go.Figure]:
    return partial(plot_experiment_by_batch_size, measurements=measurements, arms=arms, title=title)


_LOSSES = ("best_train_loss", "best_val_loss")
_SHARPNESS = ("sharpness", "sharpness_subspace", "adaptive_sharpness")

EXPERIMENT_FIGURES: Mapping[str, ExperimentFigure] = {
    "experiment_verdicts": ExperimentFigure(
        None,
        "The findings at a glance",
        "The effect behind each finding with its 95 % interval, not corrected for the number of findings: ratios of "
        "two batch sizes or learning rates, fractions of a gap that scaling closed, and the exponent of the best "
        "learning rate. Green supports what the article says, orange contradicts it, grey can't tell. The dotted line "
        "is no effect: a ratio of 1, half of the gap, an exponent of 0.",
        plot_experiment_verdicts,
    ),
    "experiment_curves": ExperimentFigure(
        5,
        "Loss during training, one learning rate",
        "Every batch size at the same learning rate. Where larger batches lie above, they descend more slowly per "
        "epoch; by updates, in the menu, the order may turn round.",
        partial(plot_experiment_curves, arm="fixed_lr"),
    ),
    "experiment_loss": ExperimentFigure(
        6,
        "Best losses, one learning rate",
        "The lowest training and validation loss that the runs reached. Small points are single runs.",
        _by_size(_LOSSES, "fixed_lr", title="Best losses, one learning rate"),
    ),
    "experiment_cost": ExperimentFigure(
        7,
        "What convergence costs, one learning rate",
        "Time per epoch times epochs is the time to the best validation loss: larger batches win only where they "
        "don't need many more epochs.",
        _by_size(
            ("seconds_per_epoch", "epochs_to_best", "seconds_to_best"),
            "fixed_lr",
            title="What convergence costs, one learning rate",
        ),
    ),
    "experiment_devices": ExperimentFigure(
        8,
        "Time per epoch by devices",
        "Several devices share a batch. Small batches gain little, since each device is left with few samples.",
        plot_experiment_devices,
    ),
    "experiment_distance": ExperimentFigure(
        10,
        "Distance from the start, one learning rate",
        "How far the best weights lie from the initial ones, in Euclidean distance.",
        _by_size(("distance_from_init",), "fixed_lr", title="Distance from the start, one learning rate"),
    ),
    "experiment_layers": ExperimentFigure(
        11,
        "Distance from the start by layer",
        "The same at the end of training, for each layer by itself, smallest batch size against largest: is a "
        "difference one of the whole network, or of some layers?",
        plot_experiment_layers,
    ),
    "experiment_epoch_distance": ExperimentFigure(
        12,
        "Distance travelled in each epoch",
        "Above, how far one epoch moves the weights; below, how many times as far the smallest batch goes.",
        plot_experiment_epoch_distance,
    ),
    "experiment_update_norms": ExperimentFigure(
        13,
        "Norms of the updates",
        "How long single updates are. Larger batches average away noise, so at one learning rate theirs are shorter.",
        plot_experiment_update_norms,
    ),
    "experiment_line": ExperimentFigure(
        18,
        "Loss between the minimizers",
        "On the straight line from the small-batch minimizer (0) to the large-batch one (1), and beyond: the steeper "
        "the loss rises around an end, the sharper it is in this one direction.",
        plot_experiment_line,
    ),
    "experiment_sharpness": ExperimentFigure(
        21,
        "Sharpness, one learning rate",
        "How much the loss can rise in a small box around the best weights. The adaptive one doesn't change when "
        "layers are rescaled. Sharpness follows the learning rate more than it follows generalisation: a "
        "description, not a goal.",
        _by_size(_SHARPNESS, "fixed_lr", title="Sharpness, one learning rate"),
    ),
    "experiment_landscape": ExperimentFigure(
        22,
        "Loss around the minimizers",
        "Contours in two random, filter-normalised directions, the same levels in every panel: the narrower the "
        "rings, the sharper. One run each.",
        plot_experiment_landscape,
    ),
    "experiment_curves_scaled": ExperimentFigure(
        23,
        "Loss during training, scaled learning rates",
        "Every batch size at a learning rate in proportion to it. The closer the lines, the better linear scaling "
        "holds.",
        partial(plot_experiment_curves, arm="scaled_lr"),
    ),
    "experiment_loss_scaled": ExperimentFigure(
        24,
        "Best losses before and after scaling",
        "Where the dashed line is flat, scaling the learning rate closes the gap between small and large batches.",
        _by_size(_LOSSES, "fixed_lr", "scaled_lr", title="Best losses before and after scaling"),
    ),
    "experiment_cost_scaled": ExperimentFigure(
        25,
        "What convergence costs before and after scaling",
        "Epochs and time to the best validation loss, with one learning rate and with scaled ones.",
        _by_size(
            ("epochs_to_best", "seconds_to_best"),
            "fixed_lr",
            "scaled_lr",
            title="What convergence costs before and after scaling",
        ),
    ),
    "experiment_sharpness_scaled": ExperimentFigure(
        26,
        "Sharpness before and after scaling",
        "Where the dashed line lies below, a scaled learning rate ends in flatter minima.",
        _by_size(_SHARPNESS, "fixed_lr", "scaled_lr", title="Sharpness before and after scaling"),
    ),
    "experiment_distance_scaled": ExperimentFigure(
        27,
        "Distance from the start before and after scaling",
        "Where the dashed line is flat, scaling lets large batches travel as far as small ones.",
        _by_size(
            ("distance_from_init",), "fixed_lr", "scaled_lr", title="Distance from the start before and after scaling"
        ),
    ),
    "experiment_loss_higher_lr": ExperimentFigure(
        28,
        "Best losses, one higher learning rate",
        "At a learning rate that is too high for the smallest batch, a larger one may win: small batches aren't "
        "better at every learning rate.",
        _by_size(_LOSSES, "higher_lr", title="Best losses, one higher learning rate"),
    ),
    "experiment_lr": ExperimentFigure(
        29,
        "Best validation loss against the learning rate",
        "The best learning rate of each batch size is drawn large: it moves to the right where it grows with the "
        "batch.",
        plot_experiment_lr,
    ),
}
