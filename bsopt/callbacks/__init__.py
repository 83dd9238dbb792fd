"""Lightning callbacks; each works in any project, with no study and no storage anywhere."""

from bsopt._lazy import attach

_HOMES = {
    "BatchSizeAdvisor": ".batch_size_advisor",
    "GradientNoiseScale": ".gradient_noise_scale",
    "LearningRateScaling": ".learning_rate_scaling",
    "OptunaPruning": ".optuna_pruning",
    "PlateauStopping": ".plateau_stopping",
    "ThroughputMonitor": ".throughput_monitor",
    "UpdateNorms": ".update_norms",
    "WeightDistance": ".weight_distance",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
