"""No password of a storage's address is shown, however odd the address, and none needs to be typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bsopt.errors import StorageError
from bsopt.storage.addresses import redacted, shows_password, study_url
from bsopt.storage.databases import open_storage

ODD = [
    "postgresql+psycopg://me:hush@host/db",
    "postgresql+psycopg:/me:hush@host/db",
    "postgresql+psycopg:me:hush@host/db",
    "postgresql://me:a@hush@host/db",
    "postgresql://me:hu/hush?x@host/db",
    "postgresql://:hush@host/db",
    "postgresql://host/db?sslmode=require&sslpassword=hush",
    "postgresql:///db?password=hush&host=/tmp",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Dme%3BPWD%3Dhush",
    "mysql+pymysql://me:hush@host:port/db",
    "mysql://host/db?auth_token=hush",
]


@pytest.mark.slow
@pytest.mark.parametrize("url", ODD)
def test_a_password_is_never_shown(url: str) -> None:
    assert "hush" not in redacted(url)
    assert shows_password(url)
    with pytest.raises(StorageError) as caught:
        open_storage(url.replace("host", "host.invalid"))
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///bsopt.db",
        "sqlite:////abs/a:b@c/x.db",
        "postgresql://me@host/db",
        "grpc://host:13000",
        "journal:///a/b.log",
        "@/run/secrets/db",
    ],
)
def test_an_address_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert redacted(url) == url
    assert not shows_password(url)


def test_an_address_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"sqlite:///{tmp_path}/x.db\n")
    assert study_url(f"@{file}") == f"sqlite:///{tmp_path}/x.db"
    open_storage(f"@{file}")
    assert (tmp_path / "x.db").exists()
    with pytest.raises(StorageError, match=r"can't read the storage's address from the file .*nowhere"):
        open_storage(f"@{tmp_path}/nowhere")
