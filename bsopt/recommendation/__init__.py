"""From trials to an answer: which batch size and learning rate, how to run it, what it costs, how sure that is."""

from bsopt._lazy import attach

_HOMES = {
    "Answer": ".values",
    "Choice": ".values",
    "Cost": ".values",
    "GOALS": ".values",
    "Goal": ".values",
    "Recommendation": ".values",
    "answers": ".questions",
    "recommend": ".recommending",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
