"""Call ``sysctlbyname`` of macOS and the BSDs: sysctl(3)."""

from __future__ import annotations

import ctypes
import sys

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_LARGEST = 1 << 16


def read(libc: Any, name: str) -> int | str | None:
    """Return a variable of the kernel, None where there is none of that name or no such function (OpenBSD)."""
    function = getattr(libc, "sysctlbyname", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    value, length = ctypes.create_string_buffer(_LARGEST), ctypes.c_size_t(_LARGEST)
    if function(name.encode(), value, ctypes.byref(length), None, 0) != 0:
        return None
    return decoded(value.raw[: length.value])


def decoded(value: bytes) -> int | str:
    """Return text for what is printable up to a NUL at its end, else the number that it is in memory.

    The kernel does not say which it is. The numbers that are asked for are small, so have NULs before their end.
    """
    text = value[:-1]
    if value[-1:] == b"\0" and all(32 <= byte < 127 for byte in text):
        return text.decode("ascii")
    if len(value) in (1, 2, 4, 8):
        return int.from_bytes(value, sys.byteorder)
    return value.decode("utf-8", "replace").rstrip("\0")
