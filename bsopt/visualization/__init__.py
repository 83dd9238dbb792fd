"""Figures of a study, one file each: an info value, how it is computed, how it is drawn, and `plot_*`.

Every `plot_*` takes an `optuna.Study` (or a list of them) and returns a `plotly.graph_objects.Figure`;
`plot_interpolation`, `plot_landscape` and `plot_sharpness` take what `bsopt.analysis` returned instead. Every
`plot_experiment_*` takes one study with a designed experiment. `FIGURES` and `EXPERIMENT_FIGURES` are the one list of
figures, by the names that the command line uses: heading, how to read, and how to draw each.

Figures are readable on any page. `figure.update_layout(template="bsopt_dark")`, or `"bsopt_light"`, gives one a page of
its own; `plotly.io.templates.default = "bsopt_dark"` does so for all that are drawn after.
"""

from bsopt._lazy import attach

_HOMES = {
    "EXPERIMENT_FIGURES": ".figure",
    "FIGURES": ".figure",
    "Figure": ".figure",
    "StudyData": ".study_data",
    "load": ".study_data",
    "plot_answer": ".answer",
    "plot_best_by_batch_size": ".best_by_batch_size",
    "plot_convergence_cost": ".convergence_cost",
    "plot_devices": ".devices",
    "plot_experiment_by_batch_size": ".experiment.by_batch_size",
    "plot_experiment_curves": ".experiment.curves",
    "plot_experiment_devices": ".experiment.devices",
    "plot_experiment_epoch_distance": ".experiment.epoch_distance",
    "plot_experiment_landscape": ".experiment.landscape",
    "plot_experiment_layers": ".experiment.layers",
    "plot_experiment_line": ".experiment.line",
    "plot_experiment_lr": ".experiment.lr_grid",
    "plot_experiment_update_norms": ".experiment.update_norms",
    "plot_experiment_variants": ".experiment.variants",
    "plot_experiment_verdicts": ".experiment.verdicts",
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
    "save_figures": ".saving",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
