"""Examining the weights that designed runs kept."""
