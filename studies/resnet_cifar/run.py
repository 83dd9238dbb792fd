"""Run the study at one of three sizes: `python run.py --data PATH --size smoke|one|many`. Further options are bsopt's.

It only puts together a `bsopt study run` and prints it, so that you can go on from there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

SIZES: dict[str, dict[str, object]] = {
    "smoke": {  # a minute on two cores: does it run at all?
        "task.model.init_args.network": "resnet8",
        "task.data.init_args.num_train": 256,
        "task.data.init_args.num_val": 100,
        "search.batch_size.low": 16,
        "search.batch_size.high": 64,
        "budget.trials": 2,
        "budget.epochs": 2,
        "trainer.devices": 1,
    },
    "one": {  # hours on one GPU
        "task.model.init_args.network": "resnet20",
        "search.batch_size.high": 4096,
        "budget.trials": 20,
        "budget.epochs": 20,
        "trainer.devices": 1,
    },
    "many": {},  # all GPUs of this machine, as study.yaml says it
}


def command(data: str, size: str, further: list[str]) -> list[str]:
    """Return the arguments of `bsopt` that run the study."""
    values = {"task.data.init_args.data_path": str(Path(data).expanduser().absolute()), **SIZES[size]}
    overrides = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["study", "run", str(HERE / "study.yaml"), "--study-name", f"resnet_cifar-{size}", *overrides, *further]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the batches' folder, their archive, or a folder of images")
    parser.add_argument("--size", choices=SIZES, default="smoke")
    arguments, further = parser.parse_known_args()
    words = command(arguments.data, arguments.size, further)
    print("bsopt " + shlex.join(words), flush=True)
    from bsopt.cli.main import main as bsopt

    sys.argv[1:] = words
    bsopt()


if __name__ == "__main__":
    main()
