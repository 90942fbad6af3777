"""What a file is that is no binary, by files that the usual tools make."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import py_compile
import zipfile
from pathlib import Path

import pytest

from cpufeat.support.file_kinds import kind_of


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("module.py", "pass")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\nexit 0\n", "script"),
        (zipped(), "wheel"),
        (gzip.compress(b"x", mtime=0), "gzip"),
        (bz2.compress(b"x"), "bzip2"),
        (lzma.compress(b"x"), "xz"),
        (b"\0asm\1\0\0\0", "WebAssembly"),
        (b"\xca\xfe\xba\xbe\0\0\0\x34", "Java"),
        ("déjà vu, a text".encode(), "text"),
        (b"e" * 63 + "é".encode()[:1], "text"),
    ],
)
def test_a_kind_of_file_is_told_by_its_first_bytes(content: bytes, words: str) -> None:
    assert words in kind_of(content[:64])


def test_bytecode_of_python_is_told(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x = 1\n")
    compiled = py_compile.compile(str(tmp_path / "module.py"), cfile=str(tmp_path / "module.pyc"))
    assert "Python bytecode" in kind_of(Path(str(compiled)).read_bytes()[:64])


def test_of_other_bytes_nothing_is_said() -> None:
    assert kind_of(b"\x01\x02\x03\xff\xfe") == ""
    assert kind_of(b"abc\xff\xff\xff\xff\xff") == ""
