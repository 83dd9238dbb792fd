"""What the fork server imports once, so that every trial starts with it: torch, Lightning and our own side."""

import signal

import torch

import bsopt.callbacks._base
import bsopt.training.processes.launcher
import bsopt.training.run_trial  # noqa: F401

for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)  # as Ctrl-C: they are for the study's process, which ends the trials in order
torch.set_num_threads(1)  # no thread pool may exist when trials are forked
