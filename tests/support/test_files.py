"""Files that are read up to a size, and written whole or not at all."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cpufeat
from cpufeat import aot
from cpufeat.cli import main
from cpufeat.support import files

if TYPE_CHECKING:
    from collections.abc import Iterator


def write_and_close(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1 << 20, (1 << 20) + 65])
def test_a_file_and_a_pipe_hold_the_same(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    read_end, write_end = os.pipe()
    writer = threading.Thread(target=write_and_close, args=(write_end, content))
    writer.start()
    assert files.read(f"/dev/fd/{read_end}") == content
    writer.join()
    os.close(read_end)
    assert files.read(tmp_path / "file", limit=size) == content


@pytest.fixture
def endless() -> Iterator[str]:
    """The path of a descriptor that has no end."""
    with Path("/dev/zero").open("rb") as zeros:
        yield f"/dev/fd/{zeros.fileno()}"


def test_a_file_over_the_limit_raises(tmp_path: Path, endless: str) -> None:
    (tmp_path / "file").write_bytes(bytes(1001))
    for path in (tmp_path / "file", endless):
        with pytest.raises(OSError, match=r"Larger than 0\.000953674 MiB"):
            files.read(path, limit=1000)


def test_a_file_that_is_too_large_is_not_read_first(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(OSError, match="Larger than 4096 MiB"):
        files.read(tmp_path / "sparse")


def test_an_unwanted_file_is_read_to_its_head_only(endless: str) -> None:
    assert files.read(endless, wanted=lambda start: start.startswith(b"\x7fELF")) == bytes(64)


def special_files(folder: Path) -> dict[str, Path]:
    """A file of each kind that may never answer."""
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return {"named pipe": folder / "fifo", "socket": folder / "socket", "device": Path("/dev/zero")}


def test_pipes_sockets_and_devices_are_refused_as_what_they_are(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    for kind, path in special_files(Path()).items():
        with pytest.raises(OSError, match=f"Is a {kind}, not a regular file") as caught:
            files.read(path)
        assert files.failure(path, caught.value) == f"{path}: Is a {kind}, not a regular file"


@pytest.mark.parametrize("verb", ["audit", "check", "identify", "verify", "compile -o out.o", "target --machine"])
def test_no_command_waits_for_a_pipe_or_a_device(verb: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for path in special_files(Path()).values():
        assert main([*verb.split(), str(path)]) == 2
        assert "not a regular file" in "".join(capsys.readouterr())


def test_no_function_waits_for_a_pipe_or_a_device(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in special_files(Path()).values():
        for function in (cpufeat.audit, cpufeat.check, cpufeat.load_machine, aot.compile, aot.Artifact.open):
            with pytest.raises(OSError, match="not a regular file"):
                function(path)
        with pytest.raises(OSError, match="not a regular file"):
            aot.from_c(path, "x86_64-linux-gnu")


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
