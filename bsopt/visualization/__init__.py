"""Figures of a study, one file each: an info value, how it is computed, how it is drawn, and `plot_*`.

Every `plot_*` takes an `optuna.Study` (or a list of them) and returns a `plotly.graph_objects.Figure`;
`FIGURES` maps the names that the command line uses to these functions. `plot_interpolation`, `plot_landscape` and
`plot_sharpness` take what `bsopt.analysis` returned instead.
"""

from bsopt._lazy import attach

_HOMES = {
    "FIGURES": ".catalogue",
    "StudyData": ".source",
    "load": ".source",
    "plot_best_by_batch_size": ".best_by_batch_size",
    "plot_convergence_cost": ".convergence_cost",
    "plot_devices": ".devices",
    "plot_interaction": ".interaction",
    "plot_interpolation": ".line_between",
    "plot_landscape": ".landscape",
    "plot_learning_curves": ".learning_curves",
    "plot_lr_slice": ".lr_slice",
    "plot_noise_scale": ".noise_scale",
    "plot_pareto": ".pareto",
    "plot_sharpness": ".sharpness",
    "plot_steps_to_target": ".steps_to_target",
    "plot_throughput": ".throughput",
    "plot_update_norms": ".update_norms",
    "plot_weight_distance": ".weight_distance",
    "save_figure": ".saving",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
