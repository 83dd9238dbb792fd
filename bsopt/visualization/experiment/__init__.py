"""Figures of a designed batch-size experiment, as in Chang & Pathak 2020.

Every `plot_experiment_*` takes one study that has an `experiment` block and shows means over the design's seeds with
their intervals. `bsopt.visualization.EXPERIMENT_FIGURES` lists the article's figures.
"""

from bsopt._lazy import attach

_HOMES = {
    "plot_experiment_by_batch_size": ".by_batch_size",
    "plot_experiment_curves": ".curves",
    "plot_experiment_devices": ".devices",
    "plot_experiment_epoch_distance": ".epoch_distance",
    "plot_experiment_landscape": ".landscape",
    "plot_experiment_layers": ".layers",
    "plot_experiment_line": ".line",
    "plot_experiment_lr": ".lr_grid",
    "plot_experiment_update_norms": ".update_norms",
    "plot_experiment_variants": ".variants",
    "plot_experiment_verdicts": ".verdicts",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
