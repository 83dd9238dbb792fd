"""What the fork server imports once, so that every trial starts with it: torch, Lightning and our own side.

Beside our own, it imports the modules that `BSOPT_PRELOAD` names; one that can't be imported is left to the trials.
"""

import contextlib
import importlib
import os
import signal

from bsopt.training.processes.parentage import ending_with_parent

_on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C meanwhile is for the study's process, too
with ending_with_parent():
    import torch

    import bsopt.callbacks._base
    import bsopt.training.processes.launcher
    import bsopt.training.run_trial
    import bsopt.training.task.describe  # noqa: F401

    for _name in os.environ.get("BSOPT_PRELOAD", "").split():
        with contextlib.suppress(Exception):
            importlib.import_module(_name)
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)  # as Ctrl-C: they are for the study's process, which ends the trials in order
torch.set_num_threads(1)  # no thread pool may exist when trials are forked
signal.signal(signal.SIGINT, _on_interrupt)  # the fork server sets its own, and gives trials this one
