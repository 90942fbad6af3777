"""Files that are read up to a size, and written whole or not at all."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from cpufeat.support import files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1 << 20, (1 << 20) + 65])
def test_a_file_and_a_pipe_hold_the_same(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    assert files.read(tmp_path / "pipe") == content
    writer.join()
    assert files.read(tmp_path / "file", limit=size) == content


@pytest.mark.parametrize("name", ["file", "/dev/zero"])
def test_a_file_over_the_limit_raises(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(bytes(1001))
    with pytest.raises(OSError, match="File too large"):
        files.read(tmp_path / name, limit=1000)


def test_an_unwanted_file_is_read_to_its_head_only() -> None:
    assert files.read("/dev/zero", wanted=lambda start: start.startswith(b"\x7fELF")) == bytes(64)


def test_an_existing_file_is_kept_if_it_may_not_be_replaced(tmp_path: Path) -> None:
    files.write(tmp_path / "file", b"first", replaces=False)
    with pytest.raises(FileExistsError):
        files.write(tmp_path / "file", b"second", replaces=False)
    assert (tmp_path / "file").read_bytes() == b"first"
    files.write(tmp_path / "file", b"third")
    assert (tmp_path / "file").read_bytes() == b"third"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_names_may_have_the_greatest_length(tmp_path: Path) -> None:
    name = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    files.write(tmp_path / name, b"content")
    assert files.read(tmp_path / name) == b"content"
    with pytest.raises(OSError, match="File name too long") as caught:
        files.write(tmp_path / f"{name}n", b"content")
    assert files.failure("file", caught.value) == "file: File name too long"
