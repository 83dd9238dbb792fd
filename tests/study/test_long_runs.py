"""A study of a thousand trials, each in a process of its own, leaves its process as small as it was."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bsopt.training.processes.launcher import Launcher, Supervision
from bsopt.trial.record import TrialRecord
from bsopt.trial.spec import TrialSpec

QUICK = """
from bsopt.trial.record import StopReason, Tick, TrialRecord

def train(spec, channel):
    print("a line for the log")
    ticks = tuple(Tick(i, 96.0 * i, i, float(i), float(i), 4.0 - i) for i in (1, 2, 3))
    for tick in ticks:
        channel.tick(tick)
    return TrialRecord(
        spec.number, "complete", spec.batch_size, spec.lr, spec.params, StopReason.COMPLETED, value=1.0, best_tick=3,
        ticks=ticks, plan=spec.plan,
    )
"""
TRIALS, WARM = 1000, 300


def _size() -> tuple[int, int, int]:
    """Return this process's resident bytes, open files and threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), threading.active_count()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_a_thousand_trials_leave_the_studys_process_as_it_was(
    pretend: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quick.py").write_text(QUICK)
    monkeypatch.syspath_prepend(str(tmp_path))
    launcher = Launcher()
    sizes: list[tuple[int, int, int]] = []

    def train(spec: TrialSpec, supervision: Supervision) -> TrialRecord:
        sizes.append(_size())
        record: TrialRecord = launcher.call("quick:train", spec, supervision)
        return record

    summary = pretend(train, budget={"trials": TRIALS, "epochs": 3}, pruning="none").run()
    assert summary.num_complete == TRIALS
    before, after = sizes[WARM], sizes[-1]
    grown = after[0] - before[0]
    # The study itself, which is in memory here, takes some kilobytes a trial.
    assert grown < 40 * (TRIALS - WARM) * 1024, f"{grown / 2**20:.0f} MiB"
    assert after[1] <= before[1] + 2
    assert after[2] <= before[2]
