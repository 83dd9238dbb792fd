from __future__ import annotations

import sys
from pathlib import Path

import optuna
import pytest

from bsopt.errors import ConfigError, MissingExtraError
from bsopt.visualization import plot_interaction, save_figure


def test_a_page_works_offline(study: optuna.Study, tmp_path: Path) -> None:
    page = save_figure(plot_interaction(study), tmp_path / "new" / "figure.html").read_text()
    assert len(page) > 4e6
    assert '<script src="http' not in page
    assert "prefers-color-scheme: dark" in page


def test_an_unknown_ending_names_the_allowed_ones(study: optuna.Study, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.html, \.png, \.svg, \.pdf\. Did you mean 'png'"):
        save_figure(plot_interaction(study), tmp_path / "figure.pn")


def test_without_kaleido_the_message_says_what_to_install(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(MissingExtraError, match=r"bsopt\[images\]"):
        save_figure(plot_interaction(study), tmp_path / "figure.png")


def test_without_a_browser_the_message_says_what_to_install(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="Chromium"):
        save_figure(plot_interaction(study), tmp_path / "figure.png")


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF")])
def test_a_picture_is_written(study: optuna.Study, tmp_path: Path, ending: str, start: bytes) -> None:
    try:
        path = save_figure(plot_interaction(study), tmp_path / f"figure.{ending}")
    except MissingExtraError as error:
        pytest.skip(str(error))
    content = path.read_bytes()
    assert content.startswith(start)
    assert len(content) > 5_000
