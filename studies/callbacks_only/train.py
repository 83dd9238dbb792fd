"""The project's command line: Lightning's own."""

from __future__ import annotations

from model import DigitsCNN, DigitsData
from pytorch_lightning.cli import LightningCLI


def main(args: list[str] | None = None, *, run: bool = True) -> LightningCLI:
    """Run what the arguments (by default those of the command line) say."""
    return LightningCLI(DigitsCNN, DigitsData, args=args, run=run, save_config_callback=None)


if __name__ == "__main__":
    main()
