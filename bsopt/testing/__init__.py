"""Made-up surfaces, studies and experiments with known laws, and the benchmark's contender."""

from bsopt._lazy import attach

_HOMES = {
    "FAMILIES": ".surfaces",
    "Surface": ".surfaces",
    "contender": ".surfaces",
    "example_data": ".study",
    "example_experiment": ".experiment",
    "example_study": ".study",
    "noisy_quadratic": ".surfaces",
    "replay": ".surfaces",
    "synthetic": ".surfaces",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
