"""An Optuna storage that waits out what passes by itself: a database that restarts, a full disk, a lost connection.

Each call that fails so is made again for up to two minutes (`BSOPT_STORAGE_WAIT`, in seconds), less than the silence
after which another host takes a trial for lost. A call that had succeeded after all, its answer lost, is seen as such.
A trial that is begun carries from then on whose it is (`bsopt.storage.ownership.claims`).
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from bsopt.errors import ConfigError
from bsopt.storage import ownership
from bsopt.storage.addresses import redacted, without_secrets
from bsopt.storage.failures import as_storage_failure, is_passing, last_line_of

__all__ = ["WAIT_SECONDS", "patient", "wait_seconds"]

WAIT_SECONDS = 120.0
"""So long a call waits for a storage that doesn't answer."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_log = logging.getLogger(__name__)


def patient(storage: BaseStorage, url: str, *, clock: Callable[[], float] = time.monotonic) -> BaseStorage:
    """Return a storage whose calls wait out failures that pass, and raise `StorageFailedError` for those that don't.

    Args:
        storage: What Optuna offers.
        url: Its address, for messages.
        clock: Monotonic seconds.

    Raises:
        ConfigError: `BSOPT_STORAGE_WAIT` is no number of seconds.
    """
    made: BaseStorage = _PatientStorage(storage, url, seconds=wait_seconds(), clock=clock)
    return made


class _Patient:
    """Calls another storage's methods, with patience."""

    def __init__(self, storage: BaseStorage, url: str, *, seconds: float, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._url = url
        self._seconds = seconds
        self._clock = clock
        self._given_up_until = -math.inf  # one long wait is enough: what follows soon is the end of the run

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        marks = ownership.marks_of_next() if template_trial is None else {}
        template = create_trial(state=TrialState.RUNNING, user_attrs=marks) if marks else template_trial
        return int(self._call("create_new_trial", (study_id, template), {}))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        is_set = bool(self._call("set_trial_state_values", (trial_id, state, values), {}))
        if is_set and state == TrialState.RUNNING:  # it was waiting
            for key, value in ownership.marks_of_next().items():
                self._call("set_trial_user_attr", (trial_id, key, value), {})
        return is_set

    def _call(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        began, pause, is_told = self._clock(), _FIRST_PAUSE, False
        while True:
            try:
                return getattr(self._storage, name)(*arguments, **named)
            except UpdateFinishedTrialError:  # noqa: PERF203  (a storage takes longer)
                if is_told and name == "set_trial_state_values" and self._is_told_already(*arguments, **named):
                    return True
                raise
            except Exception as error:
                failure = as_storage_failure(error, self._url, is_of_storage=True)
                is_over = self._clock() < self._given_up_until or self._clock() - began > self._seconds
                if failure is None:
                    raise
                if is_over or not is_passing(error):
                    self._given_up_until = self._clock() + 2 * self._seconds
                    raise failure from error
                if not is_told:
                    where, why = redacted(self._url), without_secrets(last_line_of(error.__cause__ or error), self._url)
                    _log.warning("the storage %s fails (%s); waiting up to %g s for it", where, why, self._seconds)
                is_told = True
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _is_told_already(self, trial_id: int, state: Any, values: Any = None) -> bool:
        return bool(self._storage.get_trial(trial_id).state == state)


def _method(name: str) -> Callable[..., Any]:
    def call(self: _Patient, *arguments: Any, **named: Any) -> Any:
        return self._call(name, arguments, named)

    call.__name__ = name
    return call


_NAMES = [
    name
    for name in dir(BaseStorage)
    if not name.startswith("_") and callable(getattr(BaseStorage, name)) and name not in vars(_Patient)
]
_PatientStorage = type("_PatientStorage", (_Patient, BaseStorage), {name: _method(name) for name in _NAMES})
"""Every other method of Optuna's interface; written out they would be thirty times the same two lines."""


def wait_seconds() -> float:
    """Return for how long a storage is waited for: what `BSOPT_STORAGE_WAIT` says, else `WAIT_SECONDS`.

    Raises:
        ConfigError: It is no number of seconds.
    """
    text = os.environ.get("BSOPT_STORAGE_WAIT")
    if not text:
        return WAIT_SECONDS
    try:
        return max(0.0, float(text))
    except ValueError as error:
        raise ConfigError(f"BSOPT_STORAGE_WAIT takes seconds, e.g. 120; got {text!r}.") from error
