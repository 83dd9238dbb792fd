"""Whatever is in a study file, reading it ends in one message, soon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bsopt.config import load_config
from bsopt.config.reading import read_yaml
from bsopt.errors import ConfigError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "values, aliases written out"),
        ("a: &a [*a]\n", "refers to what it stands in"),
        ("a: &a {b: *a}\n", "refers to what it stands in"),
        ("[" * 500 + "]" * 500, "more than 50 levels"),
        ("".join(" " * i + "- \n" for i in range(60)) + " " * 60 + "- x", "more than 50 levels|no valid YAML"),
        ("a: 2001-99-99\n", "no valid value of the type timestamp"),
        ("a: !!int many\n", "no valid value of the type int"),
        ("a: !!float x\n", "no valid value of the type float"),
        ("a: !!bool perhaps\n", "no valid value of the type bool"),
        ("a: !!timestamp soon\n", "no valid value of the type timestamp"),
        (f"a: {'9' * 5000}\n", "no valid value of the type int"),
        ("a: !!python/name:os.system x\n", "could not determine a constructor"),
        ("? [1, 2]\n: x\n", "a key is a word"),
        ("<<: {a: 1}\n", "write its keys out"),
        ('a: "nul\\0"\n', "holds a character"),
        ('a: "half \\ud800"\n', "holds a character"),
        ("a: b: c\n", "no valid YAML"),
        ("\x07", "no valid YAML"),
    ],
)
def test_what_yaml_must_not_say_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_yaml(text, source="study.yaml")


def test_an_alias_is_read() -> None:
    assert read_yaml("a: &a [1, 2]\nb: *a\n", source="x") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: \xff\xfe", "no text in UTF-8: byte 7 is 0xff"),
        (b"\x00\x01\x02", "no valid YAML"),
        (b"x: y\n" * 20_000, "has more than 64 kB"),
        ("".join(f"key_{i}: 1\n" for i in range(3000)).encode(), "and 2983 more"),
    ],
)
def test_a_file_that_is_no_study_is_one_message(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert len(str(caught.value)) < 10_000


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="is no file"):
            load_config(path)
    with pytest.raises(ConfigError, match="is no path"):
        load_config("nul\0.yaml")
