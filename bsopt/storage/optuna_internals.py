"""What Optuna offers no public way for; a test pins each of these."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

__all__ = ["trial_of"]


def trial_of(study: optuna.Study, frozen: FrozenTrial) -> optuna.Trial:
    """Return the live trial of a frozen one, also of one that another process runs, to write its attributes."""
    return optuna.Trial(study, frozen._trial_id)
