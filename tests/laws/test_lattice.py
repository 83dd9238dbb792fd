from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.errors import ConfigError
from bsopt.laws.lattice import check_lattice, lattice_sizes, nearest_in_ratio


@given(low=st.integers(1, 500), width=st.integers(0, 2000), step=st.integers(1, 50))
def test_every_lattice_holds_all_its_sizes_in_the_range_and_no_other(low: int, width: int, step: int) -> None:
    inside = range(low, low + width + 1)
    assert list(lattice_sizes("any", low, low + width)) == list(inside)
    assert list(lattice_sizes("pow2", low, low + width)) == [size for size in inside if size & (size - 1) == 0]
    assert list(lattice_sizes({"multiple_of": step}, low, low + width)) == [b for b in inside if b % step == 0]


@pytest.mark.parametrize("wrong", ["pow3", {"multiple_of": 0}, {"multiple_of": 1.5}, {"step": 8}, 8])
def test_wrong_lattice_is_refused_by_name(wrong: object) -> None:
    with pytest.raises(ConfigError, match="lattice"):
        check_lattice(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "nearest"), [(1, 8), (11, 8), (12, 16), (911, 1024), (1e6, 1024)])
def test_nearest_size_counts_ratios_and_not_differences(size: float, nearest: int) -> None:
    assert nearest_in_ratio(size, lattice_sizes("pow2", 8, 1024)) == nearest
