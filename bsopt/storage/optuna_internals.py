"""What bsopt needs of Optuna and Optuna offers no public way to: the only file that reads Optuna's private names.

`tests/storage/test_optuna_internals.py` holds each of them against what Optuna does.
"""

from __future__ import annotations

import json

import optuna
from optuna.artifacts._upload import ARTIFACTS_ATTR_PREFIX
from optuna.storages import BaseStorage, get_storage
from optuna.trial import FrozenTrial

__all__ = ["artifact_ids", "trial_of", "whole_study", "with_cache", "wrapped_pruners"]


def trial_of(study: optuna.Study, frozen: FrozenTrial) -> optuna.Trial:
    """Return the live trial of a frozen one, also of one that another process runs, to write its attributes."""
    return optuna.Trial(study, frozen._trial_id)


def whole_study(study: optuna.Study) -> optuna.Study:
    """Return the study itself for one bracket of it, as Hyperband hands it on, which hides the study's attributes."""
    whole: optuna.Study = getattr(study, "_study", study)
    return whole


def wrapped_pruners(pruner: object) -> list[object]:
    """Return a pruner and all that it wraps, as PatientPruner and ours do, the outermost first."""
    found: list[object] = []
    while pruner is not None:
        found.append(pruner)
        pruner = getattr(pruner, "wrapped_pruner", None) or getattr(pruner, "_wrapped_pruner", None)
    return found


def with_cache(storage: optuna.storages.RDBStorage) -> BaseStorage:
    """Return a database's storage with the cache that Optuna puts in front of one that it is given itself."""
    return get_storage(storage)


def artifact_ids(study: optuna.Study, trial: optuna.Trial | FrozenTrial | None = None) -> dict[str, str]:
    """Return file name -> artifact id of a trial's artifacts, or of the study's own; the latest of a name.

    One that was deleted in optuna-dashboard is left out: it leaves null behind, on which Optuna's own
    `get_all_artifact_meta` fails with a TypeError.
    """
    if trial is None:
        attributes = study._storage.get_study_system_attrs(study._study_id)
    else:
        attributes = study._storage.get_trial_system_attrs(trial._trial_id)
    metas = [json.loads(text) for name, text in attributes.items() if name.startswith(ARTIFACTS_ATTR_PREFIX)]
    return {meta["filename"]: meta["artifact_id"] for meta in metas if meta}
