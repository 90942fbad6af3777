"""What programs carry behind their own code is never fine, since nobody looked at it."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import build

from cpufeat import AuditError, audit, check
from cpufeat.cli import main
from cpufeat.cli.options import BAD, UNKNOWN
from cpufeat.running.payloads import payloads
from cpufeat.support.verdict import CANNOT_TELL, RUNS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAIN = "void _start(void) { for (;;); }"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "plain.c").write_text(PLAIN)
    (folder / "main.c").write_text("int main(void) { return 0; }")
    elf = build(folder / "plain", "-nostdlib", "-static", folder / "plain.c", triple="x86_64-linux-musl")
    exe = build(folder / "main.exe", folder / "main.c", triple="x86_64-windows-gnu")
    return {"ELF": elf, "PE": exe}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("payload.so", b"\x7fELF")
    return buffer.getvalue()


CHANGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "AppImage": (lambda content: content[:8] + b"AI\x02" + content[11:] + b"hsqs" + bytes(99), "AppImage"),
    "ZIP": (lambda content: content + zipped(), "bytes behind the program: a ZIP archive"),
    "PyInstaller": (lambda content: content + b"x" * 99 + b"MEI\014\013\012\013\016" + b"y" * 80, "PyInstaller"),
    "UPX": (lambda content: content[:512].replace(bytes(4), b"UPX!", 1) + content[512:], "UPX"),
    "unknown": (lambda content: content + b"\x01\xff" * 40, "80 bytes behind the program"),
}


def test_a_program_alone_carries_nothing(programs: dict[str, Path]) -> None:
    for program in programs.values():
        assert list(payloads(program.read_bytes())) == []
        assert list(payloads(program.read_bytes() + bytes(4096))) == []
    assert check(programs["ELF"], "nehalem").verdict == RUNS


PAIRS = [(change, kind) for change in CHANGES if change != "UPX" for kind in ("ELF", "PE")]


@pytest.mark.parametrize(("change", "kind"), [pair for pair in PAIRS if pair != ("AppImage", "PE")])
def test_what_is_behind_a_program_cannot_be_told(
    programs: dict[str, Path], tmp_path: Path, change: str, kind: str
) -> None:
    changed, words = CHANGES[change]
    path = tmp_path / "changed"
    path.write_bytes(changed(programs[kind].read_bytes()))
    answer = check(path, "nehalem")
    assert answer.verdict == CANNOT_TELL
    assert any(words in reason for reason in answer.reasons)
    assert main(["check", str(path), "--cpu", "nehalem"]) == UNKNOWN


def test_a_program_of_dotnet_is_told(programs: dict[str, Path]) -> None:
    content = bytearray(programs["PE"].read_bytes())
    header = int.from_bytes(content[0x3C:0x40], "little")
    row = header + 24 + 112 + 8 * 14  # IMAGE_DIRECTORY_ENTRY_COM_DESCRIPTOR of PE32+
    content[row : row + 8] = bytes(range(1, 9))
    assert any(".NET" in payload for payload in payloads(bytes(content)))


def test_the_certificates_of_a_signed_program_are_no_payload(programs: dict[str, Path]) -> None:
    content = bytearray(programs["PE"].read_bytes())
    header, end = int.from_bytes(content[0x3C:0x40], "little"), len(content)
    row = header + 24 + 112 + 8 * 4
    content[row : row + 8] = end.to_bytes(4, "little") + (64).to_bytes(4, "little")
    assert list(payloads(bytes(content) + b"\x30\x82" * 32)) == []
    assert list(payloads(bytes(content) + b"\x30\x82" * 40)) != []


def test_a_program_that_upx_packed_is_told() -> None:
    """UPX writes its header behind those of the program; nothing else of such a file matters here."""
    header = bytearray(64)
    header[:6], header[52:54] = b"\x7fELF\x02\x01", (64).to_bytes(2, "little")
    assert "UPX" in " ".join(payloads(bytes(header) + b"\0\0UPX!" + bytes(100)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"!<arch>\n" + b"debian-binary   0           0     0     100644  4         `\n2.0\n", "Debian package"),
        (b"!<arch>\n", "an empty archive"),
        (b"!<arch>\n" + b"README/         0           0     0     100644  4         `\ntext", "no binary in it, only"),
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x04\0\x3e\0" + bytes(32) + b"\x40\0" + bytes(10), "core dump"),
        (zipped(), "not a binary .*, but a ZIP archive"),
        (b"#!/usr/bin/env python3\n", "not a binary .*, but a script"),
    ],
)
def test_what_is_no_program_is_refused_as_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(AuditError, match=words):
        audit(path)
    assert main(["audit", "--max", "x86-64", str(path)]) == BAD
