"""The one list of figures: name, heading, how to read it, and how it is drawn.

Report, dashboard, command line and gallery all take their figures from here, in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import plotly.graph_objects as go

from bsopt.visualization import (
    answer,
    best_by_batch_size,
    convergence_cost,
    devices,
    interaction,
    learning_curves,
    lr_slice,
    noise_scale,
    pareto,
    steps_to_target,
    throughput,
    update_norms,
    weight_distance,
)
from bsopt.visualization.experiment import curves, epoch_distance, layers, line, lr_grid, variants, verdicts
from bsopt.visualization.experiment import devices as experiment_devices
from bsopt.visualization.experiment import landscape as experiment_landscape
from bsopt.visualization.experiment import update_norms as experiment_norms
from bsopt.visualization.experiment.by_batch_size import plot_experiment_by_batch_size
from bsopt.visualization.study_data import Source

__all__ = ["EXPERIMENT_FIGURES", "FIGURES", "Figure"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a study: call it with one, or with several where they stand in one figure.

    Attributes:
        name: By which the command line and the dashboard know it.
        heading: What it shows.
        how_to_read: In a sentence or two.
        draw: The plot function, with its choice of arms and measurements.
        article: Its number in Chang & Pathak 2020; None for a figure that the article doesn't have.
        is_tall: Whether it needs more height than a dashboard's card has.
    """

    name: str
    heading: str
    how_to_read: str
    draw: Callable[..., go.Figure]
    article: int | None = None
    is_tall: bool = False

    def __call__(self, study: Source | Sequence[Source]) -> go.Figure:
        """Draw it; a sentence where the study has nothing to show."""
        return self.draw(study)


def _by_size(
    name: str,
    heading: str,
    how_to_read: str,
    measurements: Sequence[str],
    *,
    arms: Sequence[str],
    article: int | None = None,
) -> Figure:
    draw = partial(plot_experiment_by_batch_size, measurements=measurements, arms=arms, title=heading)
    return Figure(name, heading, how_to_read, draw, article=article)


_LOSSES = ("best_train_loss", "best_val_loss")
_SHARPNESS = ("sharpness", "sharpness_subspace", "adaptive_sharpness", "top_curvature", "curvature_times_lr")

_OF_STUDIES = (
    Figure(
        "answer",
        answer.TITLE,
        "Above, what each batch size gives at its best learning rate; below, that rate. Marks tell how each batch size "
        "stands beside the best one.",
        answer.plot_answer,
    ),
    Figure(
        "interaction",
        interaction.TITLE,
        "Each mark is a trial.",
        interaction.plot_interaction,
    ),
    Figure(
        "lr_slice",
        lr_slice.TITLE,
        "Where the values of a batch size hardly change, the learning rate hardly matters; where its best moves to the "
        "right for larger batch sizes, the learning rate has to grow with them.",
        lr_slice.plot_lr_slice,
    ),
    Figure(
        "best_by_batch_size",
        best_by_batch_size.TITLE,
        "What each batch size reached at its own best learning rate. Differences no larger than the noise between "
        "seeds say nothing; batch sizes with few trials may only lack a well-tuned learning rate.",
        best_by_batch_size.plot_best_by_batch_size,
    ),
    Figure(
        "learning_curves",
        learning_curves.TITLE,
        "The best trial of each batch size stands out, the others are pale.",
        learning_curves.plot_learning_curves,
    ),
    Figure(
        "convergence_cost",
        convergence_cost.TITLE,
        "Seconds per epoch times epochs is the time to the best value.",
        convergence_cost.plot_convergence_cost,
    ),
    Figure(
        "throughput",
        throughput.TITLE,
        "What one device does with each micro-batch. Where throughput is flat a larger batch buys no time; memory "
        "limits the micro-batch, and beyond it gradients are accumulated.",
        throughput.plot_throughput,
    ),
    Figure(
        "steps_to_target",
        steps_to_target.TITLE,
        "The quickest run of each batch size: what a larger batch saves in updates, and what it costs in samples.",
        steps_to_target.plot_steps_to_target,
    ),
    Figure(
        "devices",
        devices.TITLE,
        "Of the batch sizes that are as good, the lowest on a line is the one to train with on that many devices. "
        "Where the plot below, device time, is flat over the devices they share the work; where it rises they mostly "
        "cost.",
        devices.plot_devices,
    ),
    Figure(
        "pareto",
        pareto.TITLE,
        "Trials on the line are worth choosing from, by what the value is worth.",
        pareto.plot_pareto,
    ),
    Figure(
        "noise_scale",
        noise_scale.TITLE,
        "A diagnosis, good to about one order of magnitude: batch sizes well below the curve lose little by growing, "
        "well above it they spend samples for few saved updates.",
        noise_scale.plot_noise_scale,
    ),
    Figure(
        "weight_distance",
        weight_distance.TITLE,
        "Above, how far the best trial of each batch size, at its own learning rate, ended from its initial weights; "
        "below, how far each epoch moved them.",
        weight_distance.plot_weight_distance,
    ),
    Figure(
        "update_norms",
        update_norms.TITLE,
        "How long single updates are in the best trial of each batch size, at its own learning rate.",
        update_norms.plot_update_norms,
    ),
)
_OF_EXPERIMENTS = (
    Figure(
        "experiment_verdicts",
        verdicts.TITLE,
        "The effect behind each finding with its 95 % interval, corrected for the number of findings: ratios of "
        "two batch sizes or learning rates, fractions of a gap that scaling closed, and the exponent of the best "
        "learning rate. Green supports what the article says, orange contradicts it, grey can't tell: there the "
        "interval reaches the dotted line, which is no effect: a ratio of 1, half of the gap (or past its end by as "
        "much), an exponent of 0.",
        verdicts.plot_experiment_verdicts,
        is_tall=True,
    ),
    Figure(
        "experiment_curves",
        "Loss during training, one learning rate",
        "Every batch size at the same learning rate. Each update is a step against the mean gradient of one batch, and "
        "an epoch has fewer of them the larger it is. Where larger batches lie above, they descend more slowly per "
        "epoch; by updates, in the menu, the order may turn round.",
        partial(curves.plot_experiment_curves, arm="fixed_lr"),
        article=5,
    ),
    _by_size(
        "experiment_loss",
        "Best losses, one learning rate",
        "The lowest training and validation loss that the runs reached. Small points are single runs.",
        _LOSSES,
        arms=("fixed_lr",),
        article=6,
    ),
    _by_size(
        "experiment_cost",
        "What convergence costs, one learning rate",
        "Time per epoch times epochs is the time to the best validation loss.",
        ("seconds_per_epoch", "epochs_to_best", "seconds_to_best"),
        arms=("fixed_lr",),
        article=7,
    ),
    _by_size(
        "experiment_generalisation",
        "Overfitting and the generalization gap",
        "Above, the epochs to a training loss that nearly all runs reach; in the middle, the validation loss there: "
        "where it rises with the batch size, larger batches generalise worse at equal training loss. Below, validation "
        "loss over training loss after equally many epochs: what is high overfits by then.",
        ("epochs_to_train_loss", "val_loss_at_train_loss", "overfitting"),
        arms=("fixed_lr",),
    ),
    _by_size(
        "experiment_resources",
        "Use of the device, one learning rate",
        "Training samples per second rise with the batch size as far as it uses the device better; beyond, only memory "
        "does. Memory is the device's on a GPU, what the process grew by on a CPU.",
        ("samples_per_second", "peak_memory"),
        arms=("fixed_lr",),
    ),
    Figure(
        "experiment_devices",
        experiment_devices.TITLE,
        "Several devices share a batch: where lines of more devices lie lower, they shorten an epoch.",
        experiment_devices.plot_experiment_devices,
        article=8,
    ),
    _by_size(
        "experiment_distance",
        "Distance from the start, one learning rate",
        "How far the best weights lie from the initial ones, in Euclidean distance.",
        ("distance_from_init",),
        arms=("fixed_lr",),
        article=10,
    ),
    Figure(
        "experiment_layers",
        layers.TITLE,
        "The same at the end of training, for each layer by itself, smallest batch size against largest: is a "
        "difference one of the whole network, or of some layers?",
        layers.plot_experiment_layers,
        article=11,
    ),
    Figure(
        "experiment_epoch_distance",
        epoch_distance.TITLE,
        "Above, how far one epoch moves the weights; below, how many times as far the smallest batch goes.",
        epoch_distance.plot_experiment_epoch_distance,
        article=12,
    ),
    Figure(
        "experiment_update_norms",
        experiment_norms.TITLE,
        "How long single updates are at one learning rate; the dotted lines are the medians. An update is the rate "
        "times the mean of the samples' gradients, and a mean is no longer than its parts, |a + b|/2 ≤ (|a| + |b|)/2, "
        "the shorter the more they point different ways: so a larger batch's updates should be shorter.",
        experiment_norms.plot_experiment_update_norms,
        article=13,
    ),
    Figure(
        "experiment_line",
        line.TITLE,
        "On the straight line (1 − α)·small + α·large from the small-batch minimizer (0) to the large-batch one (1), "
        "and beyond: the steeper the loss rises around an end, the sharper it is in this one direction. A flat minimum "
        "is one where a small step, or a slightly different data set, changes little.",
        line.plot_experiment_line,
        article=18,
    ),
    _by_size(
        "experiment_sharpness",
        "Sharpness, one learning rate",
        "How much the loss can rise in a small box around the weights, 100·(max f − f)/(1 + f) with every weight moved "
        "by at most 0.001·(|weight| + 1), and its largest curvature; at equal training loss where the design's "
        "matched_loss says so. The adaptive one doesn't change when layers are rescaled. "
        "Curvature times learning rate near 2 is the edge of stability, where the rate alone decides how sharp a "
        "minimum can be. A description, not a goal.",
        _SHARPNESS,
        arms=("fixed_lr",),
        article=21,
    ),
    Figure(
        "experiment_landscape",
        experiment_landscape.TITLE,
        "Contours in two random, filter-normalised directions, the same levels in every panel: the narrower the "
        "rings, the sharper. One run each.",
        experiment_landscape.plot_experiment_landscape,
        article=22,
    ),
    Figure(
        "experiment_curves_scaled",
        "Loss during training, scaled learning rates",
        "Every batch size at a learning rate in proportion to it. The closer the lines, the better linear scaling "
        "holds.",
        partial(curves.plot_experiment_curves, arm="scaled_lr"),
        article=23,
    ),
    _by_size(
        "experiment_loss_scaled",
        "Best losses before and after scaling",
        "Where the dashed line is flat, scaling the learning rate closes the gap between small and large batches.",
        _LOSSES,
        arms=(
            "fixed_lr",
            "scaled_lr",
        ),
        article=24,
    ),
    _by_size(
        "experiment_cost_scaled",
        "What convergence costs before and after scaling",
        "Epochs and time to the best validation loss, with one learning rate and with scaled ones.",
        ("epochs_to_best", "seconds_to_best"),
        arms=(
            "fixed_lr",
            "scaled_lr",
        ),
        article=25,
    ),
    _by_size(
        "experiment_sharpness_scaled",
        "Sharpness before and after scaling",
        "Where the dashed line lies below, a scaled learning rate ends in flatter minima.",
        _SHARPNESS,
        arms=(
            "fixed_lr",
            "scaled_lr",
        ),
        article=26,
    ),
    _by_size(
        "experiment_distance_scaled",
        "Distance from the start before and after scaling",
        "Where the dashed line is flat, scaling lets large batches travel as far as small ones.",
        ("distance_from_init",),
        arms=(
            "fixed_lr",
            "scaled_lr",
        ),
        article=27,
    ),
    _by_size(
        "experiment_loss_higher_lr",
        "Best losses, one higher learning rate",
        "At a learning rate that may be too high for the smallest batch: where a larger one lies lower, small batches "
        "aren't better at every learning rate.",
        _LOSSES,
        arms=("higher_lr",),
        article=28,
    ),
    Figure(
        "experiment_lr",
        lr_grid.TITLE,
        "The best learning rate of each batch size is drawn large: it moves to the right where it grows with the "
        "batch.",
        lr_grid.plot_experiment_lr,
        article=29,
    ),
    Figure(
        "experiment_variants",
        variants.TITLE,
        "The same batch sizes, learning rates and seeds with other settings: where a variant's line lies lower, it "
        "does better there. Where the lines of the loss run in parallel, it changes nothing about the batch size.",
        variants.plot_experiment_variants,
    ),
)

FIGURES: Mapping[str, Figure] = {figure.name: figure for figure in _OF_STUDIES}
"""The figures of every study by their names."""

EXPERIMENT_FIGURES: Mapping[str, Figure] = {figure.name: figure for figure in _OF_EXPERIMENTS}
"""Those of a study with a designed batch-size experiment."""
