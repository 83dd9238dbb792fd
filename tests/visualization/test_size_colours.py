"""Batch sizes have one ordered scale of colours in all figures of a study."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.testing.experiment import example_experiment
from bsopt.visualization import EXPERIMENT_FIGURES, FIGURES
from bsopt.visualization._size_colours import SizeColours, size_colours
from bsopt.visualization.study_data import StudyData, load

POWERS = [2**power for power in range(3, 11)]


def _luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=12, unique=True).map(sorted))
def test_larger_batch_sizes_are_never_darker(sizes: list[int]) -> None:
    scale = SizeColours(sizes[0], sizes[-1])
    lights = [_luminance(scale.colour(size)) for size in sizes]
    assert all(a <= b + 1e-3 for a, b in itertools.pairwise(lights))  # a colour's channels are rounded


def test_neighbours_are_told_apart_in_grey_and_ends_on_white_and_on_black() -> None:
    scale = SizeColours(8, 1024)
    lights = [_luminance(scale.colour(size)) for size in POWERS]
    assert all((b + 0.05) / (a + 0.05) > 1.15 for a, b in itertools.pairwise(lights))
    assert all(1.05 / (light + 0.05) > 1.8 and (light + 0.05) / 0.058 > 2.9 for light in lights)


def test_one_batch_size_has_a_colour() -> None:
    assert re.fullmatch("#[0-9a-f]{6}", SizeColours(64, 64).colour(64))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "designed"])
def test_a_batch_size_has_one_colour_in_every_figure(kind: str, data: StudyData) -> None:
    source = data if kind == "plain" else load(example_experiment())
    figures = {**FIGURES, **(EXPERIMENT_FIGURES if kind == "designed" else {})}
    scale, num = size_colours([source]), 0
    for figure in figures.values():
        for trace in figure(source).data:
            named = re.fullmatch(r"(?:batch size )?(\d+)(?:, .*)?", trace.name or "")
            named = named if trace.type == "scatter" else None
            colour = named and (trace.line.color if "lines" in trace.mode else trace.marker.color)
            if named and isinstance(colour, str):
                assert colour == scale.colour(int(named.group(1))), (figure.name, trace.name)
                num += 1
    assert num > 20


@pytest.fixture(scope="module")
def data() -> StudyData:
    from bsopt.testing.study import example_data

    return example_data(40)
