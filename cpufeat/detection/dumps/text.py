"""Decode the text of a dump, within the limits that all formats share."""

from __future__ import annotations

import re

from cpufeat.detection.machine import LARGEST_FILE
from cpufeat.errors import DumpError

MAX_PROCESSORS = 8192
"""The most that Linux supports."""
MAX_LINES = 1 << 20
"""Four times those of ``/proc/cpuinfo`` with so many processors. Lines take far more memory than their text."""
_LINE_ENDS = "\n\r\v\f\x85\u2028\u2029"
"""What :meth:`str.splitlines` splits at, except for control characters."""
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
"""What colours the text in a terminal, and the like: control sequences and operating system commands (ECMA-48)."""
_QUOTED = re.compile(r"^(?:> ?)+", re.MULTILINE)
_CONTROL_CHARACTERS = frozenset(map(chr, range(32))) - frozenset("\t\n\v\f\r")


def decode(content: bytes, path: str, expected: str) -> str:
    """Decode UTF-8, UTF-16 as Windows writes it, or else Latin-1; leave out a terminal's colours and ``> `` of mail.

    Raises DumpError, naming ``path`` and the ``expected`` formats, for what is empty, binary, damaged or too large.
    """
    if len(content) > LARGEST_FILE:
        raise DumpError(f"{path}: larger than {LARGEST_FILE >> 20} MiB, so no dump of a machine")
    encoding = _encoding(content)
    try:
        text = content.decode(encoding).lstrip("\ufeff").rstrip("\x1a")
    except UnicodeDecodeError as error:
        raise DumpError(f"{path}: begins as {encoding.upper()}, but byte {error.start} is not valid") from None
    text = _QUOTED.sub("", _TERMINAL.sub("", text))
    if not text.strip():
        raise DumpError(f"{path}: empty; expected {expected}")
    binary = _CONTROL_CHARACTERS.intersection(text)
    if binary:
        line = 1 + text.count("\n", 0, min(map(text.index, binary)))
        raise DumpError(f"{path}:{line}: binary; expected text: {expected}")
    if sum(map(text.count, _LINE_ENDS)) > MAX_LINES:
        raise DumpError(f"{path}: more than {MAX_LINES:,} lines, so no dump of a machine")
    return text


def _encoding(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if content[1:2] == b"\0":
        return "utf-16-le"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def check_processors(count: int, path: str) -> None:
    """Raise DumpError for more processors than any machine has."""
    if count > MAX_PROCESSORS:
        raise DumpError(
            f"{path}: {count} processors, more than any machine has (Linux supports at most {MAX_PROCESSORS})"
        )
