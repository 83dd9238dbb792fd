"""Figures and the answer of a study over batch size and learning rate, from the package bsopt."""

from bsopt import recommend
from bsopt.visualization import plot_best_by_batch_size, plot_interaction, plot_learning_curves, plot_lr_slice

__all__ = ["plot_best_by_batch_size", "plot_interaction", "plot_learning_curves", "plot_lr_slice", "recommend"]
