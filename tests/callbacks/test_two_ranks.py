from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from linear_regression import LinearRegression, loader, quiet_trainer

from bsopt.callbacks import GradientNoiseScale, UpdateNorms, WeightDistance
from bsopt.serialization import to_plain

pytestmark = [pytest.mark.distributed, pytest.mark.slow]
HERE = Path(__file__).parent


def _run(folder: Path, *what: str) -> list[dict[str, Any]]:
    """Start two ranks as torchrun would, and return what each wrote, by what it ran."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [folder / f"{rank}.json" for rank in range(2)]
    ranks = []
    for rank, file in enumerate(files):
        env = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "test",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(HERE.parents[1]),
        }
        command = [sys.executable, str(HERE / "two_ranks.py"), str(file), *what]
        ranks.append(subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    try:
        outputs = [rank.communicate(timeout=240)[0].decode() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    for rank, output in zip(ranks, outputs, strict=True):
        assert rank.returncode == 0, output
    return [json.loads(file.read_text()) for file in files]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what the two ranks of one start wrote."""
    return _run(tmp_path_factory.mktemp("ranks"), "measure", "uneven", "prune", "unequal", "identity")


def test_two_ranks_measure_what_two_micro_batches_do(ended: list[dict[str, Any]]) -> None:
    first, second = (rank["measure"] for rank in ended)
    noise, norms, distance = GradientNoiseScale(every=1), UpdateNorms(every=1), WeightDistance()
    trainer = quiet_trainer(callbacks=[noise, norms, distance], accumulate_grad_batches=2)
    trainer.fit(LinearRegression(lr=0.02), loader(num_samples=640, batch_size=16))  # the ranks scaled 0.01 at 16 to 32
    assert noise.estimate is not None
    assert norms.summary is not None
    assert distance.summary is not None
    assert first["noise"] == second["noise"]
    assert first["noise"] == pytest.approx(to_plain(noise.estimate), rel=1e-3)
    assert first["norms"]["mean"] == pytest.approx(norms.summary.mean, rel=1e-4)
    assert first["distance"]["total"] == pytest.approx(distance.summary.total, rel=1e-4)
    assert first["num_samples"] == second["num_samples"] == 640
    assert first["peak_memory_bytes"] == second["peak_memory_bytes"] > 0
    assert first["global_batch_size"] == second["global_batch_size"] == [32, 32]


def test_batches_of_unequal_ranks_add_up_to_the_same_batch_size_on_both(ended: list[dict[str, Any]]) -> None:
    assert [rank["uneven"] for rank in ended] == [{"global_batch_size": 24, "samples_seen": 240}] * 2


def test_ranks_are_unbiased_and_covered_over_200_seeds(tmp_path: Path) -> None:
    assert [rank["seeds"]["num_seeds"] for rank in _run(tmp_path, "seeds")] == [200, 200]


def test_training_with_observers_is_bit_identical_on_two_ranks(ended: list[dict[str, Any]]) -> None:
    for rank in ended:
        for plain, observed in rank["identity"].values():
            assert observed == plain


def test_a_trial_on_rank_zero_prunes_both_ranks(ended: list[dict[str, Any]]) -> None:
    first, second = (rank["prune"] for rank in ended)
    assert "ThresholdPruner pruned trial 0" in first["pruned"]
    assert second["pruned"] == first["pruned"]
    assert first["epoch"] == second["epoch"] == 0
    assert first["best"] > 0
    assert second["best"] is None


def test_ranks_with_batches_of_different_sizes_stay_together(ended: list[dict[str, Any]]) -> None:
    first, second = (rank["unequal"] for rank in ended)
    assert first == second
    assert first["global_batch_size"] == 24
    assert first["epochs"] == 4  # the first validation comes after 5 × 24 samples, and 300 more are 2.5 epochs
    assert first["num_samples"] == 5 * 24
