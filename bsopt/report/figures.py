"""The figures of the report, each with a line on how to read it."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from bsopt.report.markup import Html, embedded_json, tag
from bsopt.visualization.catalogue import FIGURES, SENTENCE
from bsopt.visualization.study_data import StudyData

__all__ = ["COMPARED", "READING", "Reading", "comparisons", "picture", "pictures", "sentence"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A figure's heading and how to read it."""

    heading: str
    how: str


READING: dict[str, Reading] = {
    "interaction": Reading(
        "Batch size × learning rate",
        "Every trial, the brighter the better; the ring is the best. Circles ran to their end, triangles were pruned, "
        "crosses diverged, crossed squares ran out of memory. The solid line is the fitted best learning rate with its "
        "90 % band, the others are scaling rules through the reference: one that runs along the solid line holds here. "
        "The clouds beneath are what the search believes.",
    ),
    "lr_slice": Reading(
        "Value against learning rate",
        "One line per batch size. Where a line is flat the learning rate hardly matters; where its lowest point "
        "(highest, for a metric to maximise) moves to the right for larger batch sizes, the learning rate has "
        "to grow with them.",
    ),
    "learning_curves": Reading(
        "Learning curves",
        "The best trial of each batch size stands out, the others are pale. By samples seen all trials are compared "
        "fairly; the menu changes to updates, epochs or seconds.",
    ),
    "best_by_batch_size": Reading(
        "Best value per batch size",
        "What each batch size reached at its own best learning rate. Differences no larger than the noise named above "
        "say nothing; batch sizes with few trials may only lack a well-tuned learning rate.",
    ),
    "convergence_cost": Reading(
        "What convergence costs",
        "Seconds per epoch times epochs is the time to the best value. Larger batches make epochs quicker until the "
        "device is full, and need more of them once the batch outgrows the gradient's noise.",
    ),
    "throughput": Reading(
        "Throughput and memory",
        "What one device does with each micro-batch. Where throughput is flat a larger batch buys no time; memory "
        "limits the micro-batch, and beyond it gradients are accumulated.",
    ),
    "steps_to_target": Reading(
        "Updates and samples to the target",
        "The quickest run of each batch size. Left of the shaded critical batch size, doubling the batch nearly halves "
        "the updates; right of it, it only spends samples. Where the study names no target, one is taken that three "
        "in four batch sizes reached.",
    ),
    "devices": Reading(
        "Time and cost to the target by devices",
        "The lowest point of a line is the batch size to train with on that many devices. More devices shorten the "
        "time while the lower plot, device time, stays flat; where it rises they mostly cost.",
    ),
    "pareto": Reading(
        "Value against cost",
        "Trials on the line are worth choosing from: every other one is both dearer and worse than one of them.",
    ),
    "noise_scale": Reading(
        "Gradient noise scale over training",
        "A diagnosis, good to about one order of magnitude: batch sizes well below the curve lose little by growing, "
        "well above it they spend samples for few saved updates.",
    ),
    "weight_distance": Reading(
        "Distance of the weights from their start",
        "Above, how far the best trial of each batch size ended from its initial weights; below, how far each epoch "
        "moved them. Larger batches at one learning rate make fewer updates and stay nearer.",
    ),
    "update_norms": Reading(
        "Norms of the updates",
        "How long single updates are. At one learning rate larger batches make shorter ones, as their gradients are "
        "less noisy.",
    ),
}

COMPARED = ("best_by_batch_size", "convergence_cost")
"""Figures that show several studies in one."""


def pictures(data: StudyData, *, prefix: str) -> list[Html]:
    """Return every figure of a study in the catalogue's order, then a list of those with nothing to show, and why."""
    drawn, missing = [], []
    for name, plot in FIGURES.items():
        figure = plot(data)
        if figure.data:
            drawn.append(picture(name, figure, element_id=f"{prefix}-{name.replace('_', '-')}"))
        else:
            missing.append(tag("li", tag("b", READING[name].heading), ": ", sentence(figure)))
    if missing:
        drawn.append(tag("div", tag("h3", "Not drawn"), tag("ul", *missing), class_="nothing"))
    return drawn


def comparisons(sources: Sequence[StudyData]) -> list[Html]:
    """Return what sets several studies side by side: a panel of each, one below the other on a phone, and overlays."""
    panels = []
    for index, data in enumerate(sources):
        figure = FIGURES["interaction"](data)
        if figure.data:
            panels.append(
                picture("interaction", figure, element_id=f"all-interaction-{index}", heading=data.name, how="")
            )
    overlays = [(name, FIGURES[name](sources)) for name in COMPARED]
    return [
        tag("div", *panels, class_="panels"),
        *(
            picture(name, figure, element_id=f"all-{name.replace('_', '-')}")
            for name, figure in overlays
            if figure.data
        ),
    ]


def picture(
    name: str, figure: go.Figure, *, element_id: str, heading: str | None = None, how: str | None = None
) -> Html:
    """Return one figure with its heading and how to read it."""
    # The figure's own title is its reading's heading, or says more: the target that is meant.
    heading = html.unescape(str(figure.layout.title.text)) if heading is None else heading
    how = READING[name].how if how is None else how
    height = int(figure.layout.height) - 30
    bare = go.Figure(figure)
    # The page has the heading: a title would say it twice, and too wide for a phone.
    bare.update_layout(title=None, margin={"t": 44 if bare.layout.updatemenus else 24}, height=height)
    # So would a sentence in the figure's corner lie over its points; the page has room below.
    said = [note for note in bare.layout.annotations if note.name == SENTENCE]
    bare.layout.annotations = [note for note in bare.layout.annotations if note.name != SENTENCE]
    return tag(
        "figure",
        tag("h3", heading),
        tag(
            "div",
            id=element_id,
            class_="plot",
            role="group",
            aria_label=heading,
            style=f"min-height:{height}px",
        ),
        embedded_json(bare.to_json(), data_plot=element_id),
        *(tag("p", _plain(note), class_="hint") for note in said),
        tag("figcaption", how) if how else None,
    )


def sentence(figure: go.Figure) -> Html:
    """Return what an empty figure says; figures escape their texts themselves."""
    return Html(" ".join(_plain(note) for note in figure.layout.annotations))


def _plain(note: go.layout.Annotation) -> Html:
    """Return an annotation's text, which figures escape themselves, with settings as code."""
    return Html(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(note.text).replace("<br>", " ")))
