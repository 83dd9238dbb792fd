"""What the runs of an experiment measured, by batch size: one plot per measurement, one line per arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import plotly.graph_objects as go

from bsopt.errors import ConfigError, nearest
from bsopt.experiment.findings.table import REMEDIES
from bsopt.experiment.measurements import Experiment, ExperimentRun
from bsopt.experiment.seed_statistics import SeedMean, mean_over_seeds
from bsopt.trial.record import StudyInfo
from bsopt.visualization import _axes, _theme, _traces
from bsopt.visualization.experiment._arms import arm_label, experiment_or_reason, lost_words, mean_text, mean_words
from bsopt.visualization.study_data import Source

__all__ = [
    "ByBatchSizeInfo",
    "Group",
    "experiment_by_batch_size_info",
    "groups_of",
    "label_of",
    "line_of_means",
    "plot_experiment_by_batch_size",
]

_LABELS: Mapping[str, str] = {
    "best_val_loss": "best {monitor}",
    "best_train_loss": "best training loss",
    "epochs_to_train_loss": "epochs to the<br>same training loss",
    "val_loss_at_train_loss": "{monitor} at the<br>same training loss",
    "overfitting": "{monitor} over training<br>loss, equal epochs",
    "seconds_per_epoch": "time per epoch [s]",
    "epochs_to_best": "epochs to the best",
    "seconds_to_best": "time to the best [s]",
    "samples_per_second": "training samples<br>per second",
    "peak_memory": "peak memory [MB]",
    "distance_from_init": "distance from the start",
    "epoch_distance": "distance of an epoch,<br>equal epochs",
    "epoch_distance_growth": "distance of an epoch,<br>late over early",
    "update_norm": "median norm<br>of an update",
    "sharpness": "sharpness [%]",
    "sharpness_subspace": "sharpness in a<br>random subspace [%]",
    "adaptive_sharpness": "adaptive sharpness<br>[rise of the loss]",
    "top_curvature": "largest curvature",
    "curvature_times_lr": "largest curvature<br>times learning rate",
    "examined_loss": "training loss where<br>it was measured",
    "line_rise": "range of the loss on<br>the line, at its ends",
    "contour_rise": "mean rise of the loss<br>around the minimizer",
}
_COLOURS = {"fixed_lr": _theme.colour_of(0), "scaled_lr": _theme.colour_of(4), "higher_lr": _theme.colour_of(2)}
"""Arm -> its colour, the same in every figure."""
_LOSSES = {"best_val_loss", "best_train_loss", "val_loss_at_train_loss"}
_LIMITED = {"epochs_to_best", "seconds_to_best"}
"""Measurements that a run which was still at its best in the end may have cut short."""
_ANALYSED = {
    "sharpness",
    "sharpness_subspace",
    "adaptive_sharpness",
    "top_curvature",
    "curvature_times_lr",
    "examined_loss",
    "line_rise",
    "contour_rise",
}


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one arm at one batch size.

    Attributes:
        arm: Name.
        batch_size: Global batch size, samples.
        lr: Their learning rate.
        runs: Those in which it was measured, by seed.
        values: Seed -> value.
        mean: Over the seeds.
    """

    arm: str
    batch_size: int
    lr: float
    runs: tuple[ExperimentRun, ...]
    values: Mapping[int, float]
    mean: SeedMean


@dataclass(frozen=True, slots=True)
class ByBatchSizeInfo:
    """What the figure shows.

    Attributes:
        info: The study.
        panels: Measurement -> its groups, by arm and batch size; only what was measured.
        logs: Measurements whose values lie decades apart: their means are geometric, on log axes.
        labels: Arm -> what it is called.
        message: Why there is nothing to show; empty where there is.
    """

    info: StudyInfo | None
    panels: Mapping[str, tuple[Group, ...]]
    logs: frozenset[str]
    labels: Mapping[str, str]
    message: str


def experiment_by_batch_size_info(
    study: Source, *, measurements: Sequence[str] = ("best_val_loss",), arms: Sequence[str] = ("fixed_lr",)
) -> ByBatchSizeInfo:
    """Return means over seeds of measurements, by arm and batch size.

    Raises:
        ConfigError: An unknown measurement or arm, or the grid, which has several learning rates per batch size.
    """
    _check(measurements, arms)
    experiment = experiment_or_reason(study, arms)
    if isinstance(experiment, str):
        return ByBatchSizeInfo(None, {}, frozenset(), {}, experiment)
    labels = {arm: arm_label(experiment.design, arm) for arm in arms}
    logs = frozenset(name for name in measurements if _axes.is_wide(_all_values(experiment, name, arms)))
    panels = {name: groups_of(experiment, name, arms, is_log=name in logs) for name in measurements}
    panels = {name: groups for name, groups in panels.items() if {group.arm for group in groups} == set(arms)}
    message = "" if panels else _not_measured(measurements[0], arms)
    return ByBatchSizeInfo(experiment.info, panels, logs, labels, message)


def plot_experiment_by_batch_size(
    study: Source,
    *,
    measurements: Sequence[str] = ("best_val_loss",),
    arms: Sequence[str] = ("fixed_lr",),
    title: str | None = None,
) -> go.Figure:
    """Plot what designed runs measured against the batch size: means over seeds, with every run beside them.

    Chang & Pathak 2020: figures 6, 7, 10, 21, 24 to 28, by the choice of measurements and arms.

    Args:
        study: A study with an experiment.
        measurements: Of `bsopt.experiment.findings.table.MEASUREMENTS`, and `best_train_loss`, `curvature_times_lr` and
            `examined_loss`; a plot for each.
        arms: Of `fixed_lr`, `scaled_lr` and `higher_lr`; a line for each.
        title: The first measurement's name, where none is given.

    Raises:
        ConfigError: An unknown measurement or arm.
    """
    found = experiment_by_batch_size_info(study, measurements=measurements, arms=arms)
    title = title or f"{_plain(measurements[0])} by batch size"
    if found.info is None or not found.panels:
        return _traces.empty_figure(title, found.message)
    num = len(found.panels)
    height = {1: 460, 2: 640}.get(num, 210 * num + 140)
    figure = _theme.stacked_figure(title, num, height=height, spacing=0.08 if num < 3 else 0.05)
    for row, (name, groups) in enumerate(found.panels.items(), start=1):
        for arm in arms:
            own = [group for group in groups if group.arm == arm]
            for trace in _traces_of(own, found, is_first=row == 1, is_limited=name in _LIMITED):
                figure.add_trace(trace, row=row, col=1)
        label = label_of(name, found.info.objective.monitor)
        values = [value for group in groups for value in group.values.values()]
        means = [group.mean for group in groups]
        axis = _axes.mean_axis(means, values, is_log=name in found.logs, from_zero=name not in _LOSSES)
        figure.update_yaxes(title={"text": label}, **axis, row=row, col=1)
    drawn = [group for panel in found.panels.values() for group in panel]
    _axes.share_x_axis(figure, _axes.batch_size_axis([float(group.batch_size) for group in drawn]), rows=num)
    lost = lost_words(run for group in drawn for run in group.runs)
    words = mean_words([group.mean.num_seeds for group in drawn], [name in found.logs for name in found.panels])
    limited = [group for name, groups in found.panels.items() if name in _LIMITED for group in groups]
    _traces.add_caption(figure, *words, _capped_words(limited), lost)
    return figure


def groups_of(experiment: Experiment, measurement: str, arms: Sequence[str], *, is_log: bool) -> tuple[Group, ...]:
    """Return the runs in which something was measured, by arm and batch size.

    Args:
        experiment: Theirs.
        measurement: What was measured.
        arms: By name; `ARM/NAME` is a variant's.
        is_log: Whether the means are geometric.
    """
    found = []
    for arm in arms:
        for size, values in sorted(experiment.values(measurement, arm).items()):
            runs = tuple(run for run in experiment.arm(arm) if run.batch_size == size and run.seed in values)
            found.append(Group(arm, size, runs[0].lr, runs, values, mean_over_seeds(values, is_log=is_log)))
    return tuple(found)


def label_of(measurement: str, monitor: str) -> str:
    """Return what an axis is called; a line of it may break."""
    return _LABELS[measurement].format(monitor=_theme.escape(monitor))


def _check(measurements: Sequence[str], arms: Sequence[str]) -> None:
    for name in measurements:
        if name not in _LABELS:
            hint = nearest(name, _LABELS) or f" There are: {', '.join(_LABELS)}."
            raise ConfigError(f"there is no measurement {name!r}.{hint}")
    if "grid" in arms:
        raise ConfigError(
            "the grid has several learning rates at each batch size: plot_experiment_lr draws it; here, name "
            "fixed_lr, scaled_lr or higher_lr."
        )
    if not measurements or not arms:
        raise ConfigError("measurements and arms need at least one name each.")


def _all_values(experiment: Experiment, measurement: str, arms: Sequence[str]) -> list[float]:
    return [v for arm in arms for seeds in experiment.values(measurement, arm).values() for v in seeds.values()]


def _not_measured(measurement: str, arms: Sequence[str]) -> str:
    words = _plain(measurement).lower()
    if measurement in _ANALYSED:
        return (
            f"The {words} of the arms {', '.join(arms)} wasn't measured yet: `bsopt study analyze` does it, where the "
            "study kept its best weights (`checkpoints: all`), with a matched_loss those where a logged training loss "
            "came down to it."
        )
    remedy = f": {REMEDIES[measurement]}" if measurement in REMEDIES else ""
    return f"No ended run of the arms {', '.join(arms)} measured the {words}{remedy}."


def _plain(measurement: str) -> str:
    words = _LABELS[measurement].format(monitor="validation loss").replace("<br>", " ").partition(" [")[0]
    return words[:1].upper() + words[1:]


def _capped_words(groups: Sequence[Group]) -> str | None:
    """Return what a caption says of runs that were still at their best when they ended, None where none was."""
    runs = {run.trial: run for group in groups for run in group.runs}.values()
    num = sum(run.record.ends_at_best for run in runs)
    return f"open: {num} of {len(runs)} runs were still best when their budget ended, so at least this" if num else None


def _traces_of(
    groups: Sequence[Group], found: ByBatchSizeInfo, *, is_first: bool, is_limited: bool
) -> list[go.Scatter]:
    """Return one arm: its runs pale, its means with bars; several arms stand side by side at each batch size.

    Args:
        groups: Of the arm, by batch size.
        found: What the figure shows.
        is_first: Whether the arm stands in the legend here.
        is_limited: Whether runs that were still at their best when they ended are drawn open.
    """
    arm = groups[0].arm
    place, label = list(found.labels).index(arm), found.labels[arm]
    look = _theme.Look(_COLOURS[arm], _theme.symbol_of(place), ("solid", "dash", "dot")[place % 3])
    shift, beside = (_shift(found, place - (len(found.labels) - 1) / 2 + extra) for extra in (0.0, 0.4))
    seen = [(group, run) for group in groups for run in group.runs]
    are_open = [is_limited and run.record.ends_at_best for _, run in seen]
    runs = _traces.points(
        [group.batch_size * beside for group, _ in seen],
        [group.values[run.seed] for group, run in seen],
        {
            "color": look.colour,
            "size": [9 if run.is_diverged else 5 for _, run in seen],
            "symbol": [
                "x-thin-open" if run.is_diverged else "circle-open" if is_open else "circle"
                for (_, run), is_open in zip(seen, are_open, strict=True)
            ],
            "line": {
                "width": [2 if run.is_diverged else is_open for (_, run), is_open in zip(seen, are_open, strict=True)],
                "color": look.colour,
            },
        },
        text=[f"batch size {group.batch_size}, seed {run.seed} (trial {run.trial})" for group, run in seen],
        hover=f"{label}<br>%{{text}}: %{{y:,.4~g}}",
        group=arm,
        showlegend=False,
    )
    line = line_of_means(groups, look, label=label, group=arm, shift=shift, is_first=is_first)
    if is_limited:
        line.marker.symbol = [
            f"{look.symbol}-open" if any(run.record.ends_at_best for run in group.runs) else look.symbol
            for group in groups
        ]
    return [runs.update(opacity=0.6), line]


def line_of_means(
    groups: Sequence[Group], look: _theme.Look, *, label: str, group: str, shift: float, is_first: bool
) -> go.Scatter:
    """Return a line through the means over seeds, with their intervals.

    Args:
        groups: One a batch size.
        look: Of the line and its marks.
        label: What it is called, in the legend too.
        group: Of the legend.
        shift: Factor on the batch size, so that the intervals of several lines stand beside each other.
        is_first: Whether it is the one that the legend shows.
    """
    means = [one.mean for one in groups]
    return _traces.line(
        [one.batch_size * shift for one in groups],
        [mean.value for mean in means],
        look,
        name=label,
        hover=f"{label}<br>%{{text}}",
        text=[f"batch size {one.batch_size}, lr {one.lr:.3g}<br>{mean_text(one.mean)}" for one in groups],
        group=group,
        showlegend=is_first,
        size=10,
        error_y=_traces.bars(means, look.colour, is_shown=any(mean.num_seeds > 1 for mean in means)),
    )


def _shift(found: ByBatchSizeInfo, steps: float) -> float:
    """A factor on the batch size that moves an arm beside the others, less than half the way to the next one."""
    sizes = sorted({group.batch_size for panel in found.panels.values() for group in panel})
    if len(sizes) < 2:
        return 1.0
    nearest_ratio = min(b / a for a, b in pairwise(sizes))
    return float(min((sizes[-1] / sizes[0]) ** 0.015, nearest_ratio**0.2) ** steps)
