"""From trials to an answer: which batch size and learning rate, how to run it, what it costs, how sure that is."""

from bsopt._lazy import attach

_HOMES = {
    "Answer": ".result",
    "Choice": ".result",
    "Cost": ".result",
    "Evidence": ".evidence",
    "FrontPoint": ".result",
    "GOALS": ".result",
    "Goal": ".result",
    "NextRun": ".result",
    "Recommendation": ".result",
    "Refusal": ".result",
    "SizeFinding": ".result",
    "SizeState": ".result",
    "answers": ".questions",
    "recommend": ".recommender",
    "recommend_from": ".recommender",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
