"""Send and receive messages of the worker: two lengths, a JSON header, bytes. Nothing in them is executed."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import IO, Any

_LENGTHS = struct.Struct("<IQ")
_MAX_SIZE = 1 << 32
"""Bytes of a header, and of a content, that are accepted."""


def send(file: IO[bytes], header: dict[str, Any], content: bytes = b"") -> None:
    """Write a message to an unbuffered file. Raises OSError."""
    text = json.dumps(header).encode()
    for part in (_LENGTHS.pack(len(text), len(content)) + text, content):
        rest = memoryview(part)
        while rest:
            rest = rest[file.write(rest) :]


def receive(file: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read a message. Raises EOFError at the end of the file, ValueError for anything but a message."""
    text_length, content_length = _LENGTHS.unpack(_exactly(file, _LENGTHS.size))
    if max(text_length, content_length) > _MAX_SIZE:
        raise ValueError(f"a message of {max(text_length, content_length)} bytes")
    try:
        header = json.loads(_exactly(file, text_length))
    except RecursionError:
        raise ValueError("a message nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("a message without a header")
    return header, _exactly(file, content_length)


def _exactly(file: IO[bytes], length: int) -> bytes:
    parts = []
    while length:
        part = file.read(min(length, 1 << 20))
        if not part:
            raise EOFError("the message ends early")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
