"""What is found out, in order of value: a short hour, or a broken one, has the first rows."""

from __future__ import annotations

from gpu_checks.driver import Row

__all__ = ["ROWS"]

_STUDY = ("pydantic", "yaml")
_MEMORY, _SPEED, _PROCESSES, _LEARNING = (f"gpu_checks.{name}" for name in ("memory", "speed", "processes", "learning"))


def _largest(name: str, title: str, seconds: float, *, on_fake: bool = False, **arguments: object) -> Row:
    title = f"largest micro-batch, {title}"
    return Row(f"largest-{name}", title, f"{_MEMORY}:largest", arguments, seconds=seconds, on_fake=on_fake)


ROWS: tuple[Row, ...] = (
    Row("machine", "the machine", f"{_PROCESSES}:machine", seconds=5),
    Row("parent", "only children touch the GPU", f"{_PROCESSES}:parent", seconds=15, on_fake=True),
    _largest("fp32", "32-true", 50, on_fake=True),
    Row("recovery", "after running out of memory", f"{_MEMORY}:recovery", seconds=25, on_fake=True),
    Row("law", "law of step time, from four sizes", f"{_SPEED}:law", seconds=25),
    _largest("bf16", "bf16-mixed", 50, precision="bf16-mixed"),
    Row("energy", "energy, use and step time", f"{_SPEED}:energy", seconds=20),
    Row("deterministic", "the same trial twice", f"{_LEARNING}:deterministic", seconds=20),
    Row("collectives", "sums over ranks", f"{_PROCESSES}:collectives", seconds=35, on_fake=True),
    Row("dividing", "two workers, and two ranks, on two GPUs", f"{_PROCESSES}:dividing", seconds=25, num_devices=2),
    Row("sharing", "two workers on one GPU", f"{_PROCESSES}:sharing", seconds=20),
    Row("noise", "noise scale against every sample's gradient", f"{_LEARNING}:noise", seconds=25),
    Row("overhead", "what callbacks add to a step", f"{_SPEED}:overhead", seconds=100),
    Row("pinned", "pinned memory, copies that don't wait", f"{_SPEED}:pinned", seconds=15),
    Row("halving", "a study halves until it fits", f"{_MEMORY}:halving", seconds=30, needs=_STUDY),
    _largest("fp16", "16-mixed", 50, precision="16-mixed"),
    Row("mnist", "20 trials on the GPU and on the CPU", f"{_LEARNING}:mnist", seconds=100, needs=_STUDY),
    _largest("bf16-checkpointing", "bf16-mixed, checkpointing", 50, precision="bf16-mixed", checkpointing=True),
    _largest(
        "bf16-compiled", "bf16-mixed, compiled", 110,
        precision="bf16-mixed", compiled=True, network="resnet8", fraction=0.04,
    ),
    _largest("fp32-checkpointing", "32-true, checkpointing", 50, checkpointing=True),
    _largest("fp16-checkpointing", "16-mixed, checkpointing", 50, precision="16-mixed", checkpointing=True),
    _largest("fp32-compiled", "32-true, compiled", 110, compiled=True, network="resnet8", fraction=0.04),
    _largest(
        "fp16-compiled", "16-mixed, compiled", 110,
        precision="16-mixed", compiled=True, network="resnet8", fraction=0.04,
    ),
    _largest("whole", "32-true, all of the memory", 90, fraction=1.0),
)  # fmt: skip
