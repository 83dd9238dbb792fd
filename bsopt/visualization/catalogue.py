"""Every figure by the name that the command line and the report use."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from bsopt.visualization._traces import SENTENCE
from bsopt.visualization.best_by_batch_size import plot_best_by_batch_size
from bsopt.visualization.convergence_cost import plot_convergence_cost
from bsopt.visualization.devices import plot_devices
from bsopt.visualization.interaction import plot_interaction
from bsopt.visualization.learning_curves import plot_learning_curves
from bsopt.visualization.lr_slice import plot_lr_slice
from bsopt.visualization.noise_scale import plot_noise_scale
from bsopt.visualization.pareto import plot_pareto
from bsopt.visualization.steps_to_target import plot_steps_to_target
from bsopt.visualization.throughput import plot_throughput
from bsopt.visualization.update_norms import plot_update_norms
from bsopt.visualization.weight_distance import plot_weight_distance

__all__ = ["FIGURES", "SENTENCE"]

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "interaction": plot_interaction,
    "lr_slice": plot_lr_slice,
    "best_by_batch_size": plot_best_by_batch_size,
    "learning_curves": plot_learning_curves,
    "convergence_cost": plot_convergence_cost,
    "throughput": plot_throughput,
    "steps_to_target": plot_steps_to_target,
    "devices": plot_devices,
    "pareto": plot_pareto,
    "noise_scale": plot_noise_scale,
    "weight_distance": plot_weight_distance,
    "update_norms": plot_update_norms,
}
