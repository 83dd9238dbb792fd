"""The batch-size experiment: designed runs beside a search, what they measured, and what that says.

kept. The findings and their tests are laws (`bsopt.experiment.findings.verdicts`).
"""

from bsopt._lazy import attach

_HOMES = {
    "AnalysisListener": ".analyzing",
    "AnalysisPlan": ".analyzing",
    "analyze": ".analyzing",
    "Design": ".design",
    "DesignedRun": ".design",
    "Experiment": ".measurements",
    "ExperimentRun": ".measurements",
    "Minimizers": ".measurements",
    "design_of": ".design",
    "experiment_of": ".measurements",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
