"""The batch-size experiment: designed runs beside a search, what they measured, and what that says.

`analyze` examines the weights that the runs kept; `bsopt.experiment.findings` judges the article's findings.
"""

from bsopt._lazy import attach

_HOMES = {
    "AnalysisListener": ".analyzing",
    "AnalysisPlan": ".analyzing",
    "analyze": ".analyzing",
    "Design": ".design",
    "DesignedRun": "bsopt.trial.designed",
    "Experiment": ".measurements",
    "ExperimentRun": ".measurements",
    "Minimizers": ".measurements",
    "Settling": ".settling",
    "design_of": ".design",
    "experiment_of": ".measurements",
    "queue_settling_seeds": ".settling",
    "settling_of": ".settling",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
