"""Ground floor: pure formulas and their fits. Numbers in, numbers out; numpy and scipy only."""
