"""The environment of each rank: Lightning reads from it which rank it is."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bsopt.errors import ConfigError
from bsopt.training.processes.environments import RankInfo, rank_environments
from bsopt.trial.plan import Plan
from bsopt.trial.spec import TrialSpec


def test_a_single_rank_is_told_nothing_of_ranks(spec: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")  # of the torchrun that started the study
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("MY_TOKEN", "kept")
    (environment,) = rank_environments(spec)
    assert not {"RANK", "WORLD_SIZE", "MASTER_PORT", "SLURM_PROCID"} & set(environment)
    assert (environment["MY_TOKEN"], environment["PL_GLOBAL_SEED"]) == ("kept", str(spec.seeds.data))
    assert os.environ["RANK"] == "3"


def test_ranks_of_one_host_differ_in_their_number_only(spec: TrialSpec) -> None:
    environments = rank_environments(replace(spec, plan=Plan(8, 1, 3)), devices=[4, 5, 7])
    assert [(e["RANK"], e["LOCAL_RANK"]) for e in environments] == [("0", "0"), ("1", "1"), ("2", "2")]
    for name, value in {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "CUDA_VISIBLE_DEVICES": "4,5,7"}.items():
        assert {e[name] for e in environments} == {value}
    assert len({e["MASTER_PORT"] for e in environments}) == 1


def test_a_rank_of_several_hosts_is_started_alone(spec: TrialSpec) -> None:
    info = RankInfo(rank=5, world_size=8, local_rank=1, local_world_size=4, node=1, address="head", port=29500)
    (environment,) = rank_environments(replace(spec, plan=Plan(8, 1, 4, 2)), rank_info=info)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
    assert [environment[name] for name in names] == ["5", "1", "8", "4", "1", "head", "29500"]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [(None, "0,2"), ("", "0,2"), ("4,5,7", "4,7"), ("GPU-8932f937, GPU-1a2b, MIG-77aa", "GPU-8932f937,MIG-77aa")],
)
def test_gpus_are_counted_among_those_that_this_process_sees(
    spec: TrialSpec, monkeypatch: pytest.MonkeyPatch, seen: str | None, expected: str
) -> None:
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    (environment,) = rank_environments(spec, devices=[0, 2])
    assert environment["CUDA_VISIBLE_DEVICES"] == expected


def test_a_gpu_that_this_process_does_not_see_is_refused(spec: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    with pytest.raises(ConfigError, match=r"GPU 2 was asked for, but CUDA_VISIBLE_DEVICES=6,7 shows 2 \(0 to 1\)"):
        rank_environments(spec, devices=[2])
