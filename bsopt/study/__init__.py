"""Where search and training meet: a study is asked for trials, has them trained, and keeps what they measured."""

from bsopt._lazy import attach

_HOMES = {
    "Study": ".study",
    "delete_study": ".study",
    "list_studies": ".study",
    "load_study": ".study",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
