"""Memory and step time measured at a few micro-batches, without training a trial."""
