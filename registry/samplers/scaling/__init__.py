"""A sampler for batch size and learning rate, from the package bsopt."""

from bsopt import ScalingSampler

__all__ = ["ScalingSampler"]
