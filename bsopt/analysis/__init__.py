"""What trained weights look like: distances, sharpness, interpolation, landscapes; for any torch module.

No study and no Trainer is needed. Every function leaves the module it is given, the random state and the
loaders' generators as it found them, and returns a frozen value. `to_stored` makes plain data of it for
JSON, `from_stored` the value of that again.
"""

from bsopt._lazy import attach

_HOMES = {
    "AdaptiveSharpness": ".sharpness",
    "Curvature": ".curvature",
    "Distance": ".distance",
    "EpochDistances": ".distance",
    "Interpolation": ".interpolation",
    "Landscape1D": ".landscape",
    "Landscape2D": ".landscape",
    "LossSurface": ".surface",
    "Sharpness": ".sharpness",
    "adaptive_sharpness": ".sharpness",
    "epoch_distances": ".distance",
    "filter_normalized_direction": ".landscape",
    "fixed_batches": ".batches",
    "from_stored": ".stored_results",
    "interpolate": ".interpolation",
    "keskar_sharpness": ".sharpness",
    "landscape_1d": ".landscape",
    "landscape_2d": ".landscape",
    "step_loss": ".losses",
    "top_curvature": ".curvature",
    "to_stored": ".stored_results",
    "weight_distance": ".distance",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
