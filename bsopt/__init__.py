"""bsopt: which batch size and learning rate to use, how to realise them, what they cost, and how sure that is."""

from bsopt._lazy import attach

__version__ = "0.1.0"

_HOMES = {
    "BsoptError": ".errors",
    "PlateauPruner": ".search.pruner",
    "ScalingSampler": ".search.sampler",
    "Study": ".study",
    "analysis": ".analysis",
    "callbacks": ".callbacks",
    "conclude": ".search.pruner",
    "continue_paused": ".search.pausing",
    "continued": ".search.pausing",
    "laws": ".laws",
    "load_study": ".study",
    "measure_lr": ".training.ladder.any_module",
    "recommend": ".recommendation",
    "testing": ".testing",
    "visualization": ".visualization",
    "write_report": ".report",
}

__all__ = ["__version__", *sorted(_HOMES)]
__getattr__, __dir__ = attach(__name__, _HOMES)
