"""Every figure by the name that the command line and the report use."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from bsopt.visualization.best_by_batch_size import plot_best_by_batch_size
from bsopt.visualization.convergence_cost import plot_convergence_cost
from bsopt.visualization.interaction import plot_interaction
from bsopt.visualization.learning_curves import plot_learning_curves
from bsopt.visualization.lr_slice import plot_lr_slice
from bsopt.visualization.pareto import plot_pareto

__all__ = ["FIGURES"]

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "interaction": plot_interaction,
    "lr_slice": plot_lr_slice,
    "best_by_batch_size": plot_best_by_batch_size,
    "learning_curves": plot_learning_curves,
    "convergence_cost": plot_convergence_cost,
    "pareto": plot_pareto,
}
