"""One trial as plain values: how its batch size is realised, what its processes are given, what it measured."""
