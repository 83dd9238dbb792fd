"""The report: one HTML file that opens offline, the answer first."""

from bsopt._lazy import attach

_HOMES = {
    "Report": ".page",
    "write_report": ".page",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
