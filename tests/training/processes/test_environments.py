"""The environment of each rank: Lightning reads from it which rank it is."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

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
