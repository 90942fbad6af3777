"""Parse dumps of machines that other programs wrote, into recordings; ``FORMATS`` here registers each format.

:mod:`.text` decodes the bytes, the first line that a row of :data:`FORMATS` recognizes tells the format, and the reader
of that row parses the text, with :mod:`.paste` if it consists of keys and values. :mod:`.foreign` tells what else a
text may be. A format is added by a module with a reader and a row here.
"""

from __future__ import annotations

import os

from cpufeat.detection.dumps import cpuid_leaves, cpuinfo, foreign, labels, lscpu, sysctl, text
from cpufeat.detection.machine import LARGEST_FILE
from cpufeat.detection.recording import Recording
from cpufeat.errors import DumpError, expect
from cpufeat.support import files
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Callable


class Format(Value):
    """A format of dumps."""

    name: str
    """The name that :func:`load` returns."""
    title: str
    """The name in messages and ``--help``."""
    read: Callable[[str, str], Recording]
    """Parses a text; its path is for messages. Raises DumpError."""
    recognizes: Callable[[str], bool] = lambda key: False
    """Whether a line with this text before its colon, or without one, occurs only in the format."""
    json_key: str = ""
    """The key by which a JSON object is recognized as one, empty where the format is not JSON."""


FORMATS = (
    Format("recording", "a recording of cpufeat", Recording.from_json, json_key="cpufeat"),
    Format("cpuid", "CPUID leaves (cpuid -r, InstLatx64)", cpuid_leaves.read, cpuid_leaves.is_leaf),
    Format("cpuinfo", "/proc/cpuinfo", cpuinfo.read, cpuinfo.KEYS.__contains__),
    Format("lscpu", "lscpu", lscpu.read, lscpu.is_label, "lscpu"),
    Format("sysctl", "macOS' sysctl", sysctl.read, sysctl.is_variable),
)
"""Every format; a line that several recognize is of the first."""
TITLES = ", ".join(format_.title for format_ in FORMATS)
"""The formats in one phrase."""


def load_machine(path: str | os.PathLike[str]) -> Recording:
    """Return the machine that another one recorded in a file: for ``detect``, ``explain`` and ``CPUFEAT_MACHINE``.

    The format is recognized: a recording of ``cpufeat record``, CPUID leaves (``cpuid -r``, InstLatx64),
    ``/proc/cpuinfo``, ``lscpu`` as text or JSON, macOS' ``sysctl``. Raises OSError, such as FileNotFoundError, for a
    file that cannot be read or is larger than 16 MiB; DumpError, which names the path and the line, for one that is
    damaged or in none of these formats.
    """
    expect("path", path, (str, os.PathLike), "a path")
    return load(os.fspath(path))[1]


def load(path: str) -> tuple[str, Recording]:
    """Return the name of a dump's format (of :data:`FORMATS`) and the machine in it.

    ``/proc/cpuinfo`` is kept under its path, lscpu's output as the file ``lscpu``, CPUID leaves by processor.
    Raises OSError for a file that cannot be read or is larger than 16 MiB; DumpError, naming the path and, where there
    is one, the line, for one that is empty, binary, damaged, or in none of these formats.
    """
    try:
        content = files.read(path, limit=LARGEST_FILE)
    except ValueError as error:
        raise DumpError(files.failure(path, error)) from None
    return parse(content, path)


def parse(content: bytes, path: str) -> tuple[str, Recording]:
    """Do what :func:`load` does, with bytes that were read earlier; ``path`` is for messages."""
    decoded = text.decode(content, path, TITLES)
    try:
        format_ = _json_format(decoded) if decoded.lstrip().startswith("{") else _line_format(decoded)
        if format_ is None:
            decoded = foreign.without_node(decoded, path)
            format_ = _line_format(decoded)
        if format_ is None:
            raise DumpError(f"{path}: not in a known format; expected {TITLES}")
        return format_.name, format_.read(decoded, path)
    except DumpError as error:
        is_ours = any(f'"{format_.json_key}"' in decoded for format_ in FORMATS if format_.json_key)
        program = "" if is_ours else foreign.named(decoded)
        raise DumpError(f"{path}: {program}") if program else error from None


def _json_format(decoded: str) -> Format:
    """Return the first format whose key occurs; damaged JSON is taken for a recording, whose reader explains it."""
    formats = [format_ for format_ in FORMATS if format_.json_key]
    return next((format_ for format_ in formats if f'"{format_.json_key}"' in decoded), formats[0])


def _line_format(decoded: str) -> Format | None:
    keys = (labels.split(line)[0] for line in decoded.splitlines())
    return next((format_ for key in keys for format_ in FORMATS if format_.recognizes(key)), None)
