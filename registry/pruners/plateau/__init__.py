"""A pruner that tells converged trials from hopeless ones, from the package bsopt."""

from bsopt import PlateauPruner, conclude

__all__ = ["PlateauPruner", "conclude"]
