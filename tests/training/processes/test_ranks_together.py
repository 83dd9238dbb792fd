"""Ranks of one host and of several find each other over gloo, and each sees the GPUs that are its own."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from rank_reports import end_late, report

from bsopt.training.processes.environments import RankInfo, free_port
from bsopt.training.processes.launcher import Launcher, has_processes
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.plan import Plan
from bsopt.trial.spec import TrialSpec

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.skipif(not has_processes(), reason="needs processes of its own"),
]
REPORT = f"{report.__module__}:report"


def test_workers_of_one_host_train_on_gpus_of_their_own(spec: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    launcher = Launcher()

    def work(worker: int) -> list[dict[str, str]]:
        own = replace(spec, number=worker, plan=Plan(8, 1, 2), folder=f"{spec.folder}/{worker}")
        return launcher.call(REPORT, own, Supervision(), devices=[2 * worker, 2 * worker + 1])

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    assert [(r["RANK"], r["LOCAL_RANK"], r["WORLD_SIZE"]) for r in first] == [("0", "0", "2"), ("1", "1", "2")]
    assert {r["CUDA_VISIBLE_DEVICES"] for r in first} == {"4,5"}
    assert {r["CUDA_VISIBLE_DEVICES"] for r in second} == {"6,7"}


def test_ranks_of_two_hosts_find_each_other(spec: TrialSpec) -> None:
    """Each host starts its own ranks with its own GPUs; the two are folders and threads of this one."""
    launcher, port = Launcher(), free_port()
    devices = {0: [0, 1], 1: [2, 3]}

    def start(rank: int) -> list[dict[str, str]] | None:
        node, local = divmod(rank, 2)
        info = RankInfo(rank, 4, local, 2, node=node, port=port)
        own = replace(spec, plan=Plan(8, 1, 2, 2), folder=f"{spec.folder}/{rank}")
        return launcher.call(REPORT, own, Supervision(), devices=devices[node], rank_info=info)

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(start, range(4)))
    assert reports[0] is not None
    seen = [(r["RANK"], r["GROUP_RANK"], r["LOCAL_RANK"], r["CUDA_VISIBLE_DEVICES"]) for r in reports[0]]
    assert seen == [("0", "0", "0", "0,1"), ("1", "0", "1", "0,1"), ("2", "1", "0", "2,3"), ("3", "1", "1", "2,3")]


def test_a_rank_that_ends_after_the_first_is_waited_for(spec: TrialSpec) -> None:
    Launcher().call(f"{end_late.__module__}:{end_late.__name__}", replace(spec, plan=Plan(8, 1, 2)), Supervision())
    assert (Path(spec.folder) / "ended").exists()


def test_the_fork_server_asks_the_driver_for_nothing() -> None:
    """A process forked after that could use no GPU: what the server imports must not even count them."""
    code = (
        "import torch\n"
        "def asked(*a): raise SystemExit('the driver was asked')\n"
        "torch.cuda.is_available = torch.cuda.device_count = torch.cuda._lazy_init = asked\n"
        "import bsopt.training.processes.preload\n"
        "assert not torch.cuda.is_initialized()\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (told.returncode, told.stderr) == (0, "")
