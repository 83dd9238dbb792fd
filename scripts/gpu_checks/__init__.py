"""What only a GPU shows: the rows of `scripts/check_gpu`, which the tests marked `gpu` run in small."""
