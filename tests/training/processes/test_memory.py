"""What counts as evidence that memory ran out."""

from __future__ import annotations

from pathlib import Path

import pytest

from bsopt.training.processes.memory import MemoryEvidence

CGROUPS = {
    "second version": ("0::/job\n", "sys/fs/cgroup/job/memory.events", "low 0\noom 3\noom_kill {}\n"),
    "first version": (
        "9:name=systemd:/\n4:memory:/job\n",
        "sys/fs/cgroup/memory/job/memory.oom_control",
        "under_oom 0\noom_kill {}\n",
    ),
    "no cgroup": ("", "proc/vmstat", "nr_free_pages 7\noom_kill {}\n"),
}


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("version", CGROUPS)
def test_a_kill_that_the_kernel_counts_is_evidence(tmp_path: Path, version: str) -> None:
    groups, file, text = CGROUPS[version]
    _write(tmp_path, {"proc/self/cgroup": groups, file: text.format(2)})
    evidence = MemoryEvidence(tmp_path)
    assert not evidence.is_found  # of earlier ones
    _write(tmp_path, {file: text.format(3)})
    assert evidence.is_found


@pytest.mark.parametrize(("megabytes", "is_found"), [(80, False), (95, True)])
def test_processes_that_filled_their_limit_are_evidence(tmp_path: Path, megabytes: int, is_found: bool) -> None:
    files = {
        "proc/self/cgroup": "0::/job\n",
        "proc/meminfo": "MemTotal:       16000000 kB\n",
        "sys/fs/cgroup/job/memory.max": f"{100 << 20}\n",
        "proc/7/statm": f"9999999 {megabytes * 256 - 256} 10 0 0 0 0\n",
        "proc/8/statm": "9999999 256 10 0 0 0 0\n",
    }
    _write(tmp_path, files)
    evidence = MemoryEvidence(tmp_path)
    evidence.look_at([7, 8, None, 9])
    assert evidence.is_found is is_found


def test_nothing_known_is_no_evidence(tmp_path: Path) -> None:
    evidence = MemoryEvidence(tmp_path)
    evidence.look_at([1])
    assert not evidence.is_found
