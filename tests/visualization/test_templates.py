"""The looks that plotly knows by name."""

from __future__ import annotations

import optuna
import plotly.io as pio
import pytest

from bsopt.visualization import plot_interaction
from bsopt.visualization._theme import TEMPLATES


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * channel for share, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("name", ["bsopt_light", "bsopt_dark"])
def test_text_is_readable_on_the_templates_page(name: str) -> None:
    layout = pio.templates[name].layout
    dark, light = sorted(map(_luminance, (layout.font.color, layout.paper_bgcolor)))
    assert (light + 0.05) / (dark + 0.05) >= 7.0


def test_a_template_changes_text_lines_and_page_of_a_drawn_figure(study: optuna.Study) -> None:
    figure = plot_interaction(study)
    assert figure.layout.template == TEMPLATES["bsopt"]
    assert figure.layout.font.color is figure.layout.paper_bgcolor is figure.layout.xaxis.linecolor is None
    figure.update_layout(template="bsopt_dark")
    assert figure.layout.template.layout.paper_bgcolor == "#15171b"


def test_the_default_template_holds_where_it_is_one_of_ours(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pio.templates, "default", "bsopt_dark")
    assert plot_interaction(study).layout.template == TEMPLATES["bsopt_dark"]
    monkeypatch.setattr(pio.templates, "default", "plotly_white")
    assert plot_interaction(study).layout.template == TEMPLATES["bsopt"]
