"""What the variants of an experiment measured beside the study's own settings, by batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

from bsopt.experiment.findings.variants import arm_of_variant
from bsopt.experiment.measurements import Experiment
from bsopt.visualization import _axes, _theme, _traces
from bsopt.visualization.experiment._arms import arm_label, experiment_or_reason, mean_words
from bsopt.visualization.experiment.by_batch_size import Group, groups_of, label_of, line_of_means
from bsopt.visualization.study_data import Source

__all__ = ["VariantPanel", "VariantsInfo", "experiment_variants_info", "plot_experiment_variants"]

TITLE = "Variants beside the study's own settings"
OWN = "as the study"
_COSTS = ("seconds_per_epoch", "peak_memory")


@dataclass(frozen=True, slots=True)
class VariantPanel:
    """One plot.

    Attributes:
        arm: Whose runs.
        measurement: What is shown.
        lines: Variant (`OWN` without one) -> its groups, by batch size.
        is_log: Whether the means are geometric, on a log axis.
    """

    arm: str
    measurement: str
    lines: Mapping[str, tuple[Group, ...]]
    is_log: bool


@dataclass(frozen=True, slots=True)
class VariantsInfo:
    """What the figure shows: its plots, or why there are none."""

    panels: tuple[VariantPanel, ...]
    message: str


def experiment_variants_info(study: Source) -> VariantsInfo:
    """Return means over seeds of loss, time and memory with each variant: the loss in every arm, the others in one."""
    experiment = experiment_or_reason(study)
    if isinstance(experiment, str):
        return VariantsInfo((), experiment)
    variants = experiment.design.variants
    if not variants:
        return VariantsInfo((), "The design has no variants: `variants` in the file's `experiment` block names them.")
    arms = [arm for arm in experiment.design.arms if any(arm in variant.arms for variant in variants)]
    wanted = [("best_val_loss", arm) for arm in arms] + [(name, arms[0]) for name in _COSTS]
    panels = [_panel(experiment, measurement, arm) for measurement, arm in wanted]
    shown = tuple(panel for panel in panels if len(panel.lines) > 1)
    return VariantsInfo(shown, "" if shown else "No run of a variant has ended yet.")


def plot_experiment_variants(study: Source) -> go.Figure:
    """Plot loss, time and memory of an experiment's variants against the batch size, beside the study's own settings.

    Means over seeds with their intervals, and every run; the loss for each of the arms that variants were trained in.

    Args:
        study: A study with an experiment that has variants.
    """
    found, experiment = experiment_variants_info(study), experiment_or_reason(study)
    if not found.panels or isinstance(experiment, str):
        return _traces.empty_figure(TITLE, found.message)
    num = len(found.panels)
    figure = _theme.stacked_figure(TITLE, num, height=210 * num + 140, spacing=0.05)
    names = [OWN, *(variant.name for variant in experiment.design.variants)]
    seen: set[str] = set()
    for row, panel in enumerate(found.panels, start=1):
        for name, groups in panel.lines.items():
            for trace in _line(name, groups, place=names.index(name), is_first=name not in seen):
                figure.add_trace(trace, row=row, col=1)
        seen |= set(panel.lines)
        drawn = [group for groups in panel.lines.values() for group in groups]
        values = [value for group in drawn for value in group.values.values()]
        is_loss = panel.measurement == "best_val_loss"
        axis = _axes.mean_axis([group.mean for group in drawn], values, is_log=panel.is_log, from_zero=not is_loss)
        label = label_of(panel.measurement, experiment.info.objective.monitor)
        title = f"{label}<br>{arm_label(experiment.design, panel.arm)}"
        figure.update_yaxes(title={"text": title}, **axis, row=row, col=1)
    every = [group for panel in found.panels for groups in panel.lines.values() for group in groups]
    _axes.share_x_axis(figure, _axes.batch_size_axis([float(group.batch_size) for group in every]), rows=num)
    words = mean_words([group.mean.num_seeds for group in every], [panel.is_log for panel in found.panels])
    _traces.add_caption(figure, *words)
    return figure


def _panel(experiment: Experiment, measurement: str, arm: str) -> VariantPanel:
    named = {OWN: arm} | {v.name: arm_of_variant(arm, v.name) for v in experiment.design.variants if arm in v.arms}
    values = [
        v for name in named.values() for seeds in experiment.values(measurement, name).values() for v in seeds.values()
    ]
    is_log = _axes.is_wide(values)
    lines = {name: groups_of(experiment, measurement, [place], is_log=is_log) for name, place in named.items()}
    return VariantPanel(arm, measurement, {name: groups for name, groups in lines.items() if groups}, is_log)


def _line(name: str, groups: tuple[Group, ...], *, place: int, is_first: bool) -> list[go.Scatter]:
    """Return one variant: its runs pale, its means with bars, a little beside the others."""
    look = _theme.Look(_theme.colour_of(place), _theme.symbol_of(place), ("solid", "dash", "dot")[place % 3])
    shift = 1.02**place
    runs = _traces.points(
        [group.batch_size * shift for group in groups for _ in group.values],
        [value for group in groups for value in group.values.values()],
        {"color": look.colour, "size": 5},
        text=[f"batch size {group.batch_size}, seed {seed}" for group in groups for seed in group.values],
        hover=f"{name}<br>%{{text}}: %{{y:,.4~g}}",
        group=name,
        showlegend=False,
    )
    line = line_of_means(groups, look, label=name, group=name, shift=shift, is_first=is_first)
    return [runs.update(opacity=0.6), line]
