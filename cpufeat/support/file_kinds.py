"""Tell what a file is that is no binary, by its first bytes, for messages."""

from __future__ import annotations

_MAGICS = (
    (0, b"#!", "a script, which a program runs that its first line names"),
    (0, b"PK\x03\x04", "a ZIP archive (a wheel, JAR or APK, say): unpack it"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"\x1f\x8b", "compressed by gzip: unpack it"),
    (0, b"BZh", "compressed by bzip2: unpack it"),
    (0, b"\xfd7zXZ\0", "compressed by xz: unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it"),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4: unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it"),
    (0, b"\xed\xab\xee\xdb", "an RPM package: unpack it (rpm2cpio)"),
    (0, b"hsqs", "a SquashFS image: unpack it (unsquashfs)"),
    (0, b"\x53\xef", "a file system"),
    (0, b"07070", "a cpio archive: unpack it"),
    (0, b"BC\xc0\xde", "LLVM bitcode, which is no machine code yet"),
    (0, b"\xde\xc0\x17\x0b", "LLVM bitcode, which is no machine code yet"),
    (0, b"\0asm", "WebAssembly, which is no machine code"),
    (0, b"\xca\xfe\xba\xbe\0\0\0", "a Java class file, which is no machine code"),
    (0, b"dex\n", "Android bytecode, which is no machine code"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "an image"),
    (0, b"SQLite format 3\0", "a database"),
    (4, b"\xe3\0\0\0", "Python bytecode, which is no machine code"),
    (16, b"\xe3\0\0\0", "Python bytecode, which is no machine code"),
)
"""Offset, the bytes there, and what a file is that has them; the first row that fits is right."""
_CONTROL = frozenset(range(32)) - set(b"\t\n\f\r\x1b")


def kind_of(head: bytes) -> str:
    """Return what a file is whose first bytes these are, in words; empty if that is not known."""
    if not head:
        return "an empty file"
    known = next((kind for offset, magic, kind in _MAGICS if head[offset:].startswith(magic)), "")
    return known or ("text" if _is_text(head) else "")


def _is_text(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # otherwise a character may be cut off
            return False
    return _CONTROL.isdisjoint(head)
