"""What the article claims, as tests of measured runs: numbers in, verdicts out."""
