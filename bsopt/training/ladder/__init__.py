"""The learning rate before the first trial: a few steps at each of a ladder of rates."""
