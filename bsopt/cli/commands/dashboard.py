"""`bsopt dashboard`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import DEFAULT_STORAGE, NamedStudy
from bsopt.cli.options import names_options, open_option, storage_option, studies_argument

if TYPE_CHECKING:
    import optuna

__all__ = ["dashboard"]


@click.command(cls=Command, short_help="Open the studies in optuna-dashboard.")
@studies_argument
@storage_option
@click.option("--host", default="127.0.0.1", show_default=True, help="It asks for no password: mind who can reach it.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--artifact-dir",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder of the artifacts, reports among them; by default the studies' own.",
)
@open_option
@click.option("--publish-only", is_flag=True, help="Write the figures and notes into the storage and end.")
@names_options
def dashboard(
    studies: tuple[str, ...],
    storage: str | None,
    host: str,
    port: int,
    artifact_dir: str | None,
    is_opened: bool,
    publish_only: bool,
    batch_size_name: str | None,
    lr_name: str | None,
) -> None:
    """Put bsopt's figures and notes into optuna-dashboard and serve it until Ctrl-C.

    STUDY is a name or a study file; all studies of the storage where none is given.
    """
    from bsopt.cli.opening import existing_storage, quiet_hosts

    quiet_hosts()
    from bsopt.report.dashboard import publish, serve
    from bsopt.study.study import list_studies

    url = storage or (NamedStudy(studies[0]).resolved().storage if studies else None) or DEFAULT_STORAGE
    existing_storage(url)
    chosen = [NamedStudy(study, url).open().optuna for study in studies] or list_studies(url)
    folder = Path(artifact_dir) if artifact_dir else _artifact_folder(chosen)
    for study in chosen:
        click.echo(f"publishing {study.study_name}")
        publish(study, folder, batch_size=batch_size_name, lr=lr_name)
    if publish_only:
        return

    def tell(address: str) -> None:
        click.echo(f"dashboard: {address}   (Ctrl-C ends it)")
        if is_opened:
            click.launch(address)

    with contextlib.suppress(KeyboardInterrupt):
        serve(url, host, port, folder, on_ready=tell)


def _artifact_folder(studies: Sequence[optuna.Study]) -> Path | None:
    """Return the folder where the studies keep their artifacts; of several, the one that most of them share."""
    from bsopt.storage.attributes import read_info

    folders = Counter(read_info(study).artifact_folder for study in studies)
    there = [folder for folder, _ in folders.most_common() if folder.is_dir()]
    return there[0] if there else None
