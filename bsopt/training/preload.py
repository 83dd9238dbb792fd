"""What the fork server imports once, so that every trial starts with it: torch, Lightning and our own side."""

import torch

import bsopt.callbacks.base
import bsopt.training.launch
import bsopt.training.trainer  # noqa: F401

torch.set_num_threads(1)  # no thread pool may exist when trials are forked
