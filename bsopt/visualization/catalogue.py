"""Every figure by the name that the command line and the report use."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from bsopt.visualization.interaction import plot_interaction
from bsopt.visualization.learning_curves import plot_learning_curves
from bsopt.visualization.lr_slice import plot_lr_slice

__all__ = ["FIGURES"]

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "interaction": plot_interaction,
    "learning_curves": plot_learning_curves,
    "lr_slice": plot_lr_slice,
}
