"""Compile C to unoptimized IR with Zig's clang, so that llvmlite's LLVM can optimize it for each target."""

from __future__ import annotations

import functools
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cpufeat import llvm_tables
from cpufeat.aot.frontend.module import Source
from cpufeat.aot.llvm import triples
from cpufeat.aot.toolchain import zig
from cpufeat.errors import CompileError, CpufeatError, expect, expect_strings, positive, warn
from cpufeat.support import files, processes

if TYPE_CHECKING:
    from collections.abc import Sequence

TIME_LIMIT = 600.0
"""The default ``time_limit``, in seconds."""
_OPTIONS = (
    "-O2",  # IR with all that the optimizer can use; but clang itself must not run it:
    "-Xclang",
    "-disable-llvm-passes",
    "-fPIC",
    "-g0",
    "-UNDEBUG",  # zig cc defines it for -O2, clang does not
    "-fno-sanitize=all",
    "-Wno-unused-command-line-argument",  # zig cc adds a -c
    "-S",
    "-emit-llvm",
)
_TARGET = re.compile(r' "target-cpu"="[^"]*"(?: "target-features"="[^"]*")?(?: "tune-cpu"="[^"]*")?')
_CLANG = re.compile(r"clang version (\d+)")


def from_c(
    file: str | os.PathLike[str], triple: str, arguments: Sequence[str] = (), *, time_limit: float = TIME_LIMIT
) -> Source:
    """Return the IR of a C file, for :func:`cpufeat.aot.compile`.

    ``triple`` is LLVM's; the preprocessor sees the lowest CPU of that architecture, since the code is for every target.
    ``arguments`` are passed to clang: ``-Iinclude``, ``-DNAME=VALUE``, ``-ffast-math``. ``time_limit`` is in seconds.
    The compiler's warnings become a CpufeatWarning. Raises OSError, such as FileNotFoundError, for a file that cannot
    be read; CompileError, with the compiler's own message, for C that it rejects, and for IR that is too new for the
    installed llvmlite; TargetError for a triple whose system LLVM does not know; MissingExtraError without ``ziglang``.
    """
    expect("file", file, (str, os.PathLike), "a path")
    expect("triple", triple, str, "LLVM's triple, a str")
    expect_strings("arguments", arguments)
    positive("time_limit", time_limit)
    path = os.fspath(file)
    try:
        files.opened(path).close()
    except ValueError as error:
        raise CompileError(files.failure(path, error)) from None
    options = (*(() if _keeps_frame_pointers(triple) else ("-fomit-frame-pointer",)), *arguments)
    ir, messages = _compile(_operand(path), triple, options, time_limit)
    newest = int(max(_CLANG.findall(ir), key=int, default="0"))
    if newest > llvm_tables.installed():
        raise CompileError(
            f"{path}: ziglang's clang writes IR of LLVM {newest}, newer than the LLVM {llvm_tables.installed()} "
            f"in the installed llvmlite: pip install -U llvmlite"
        )
    if messages:
        warn(messages)
    for default in _defaults(triple, options, time_limit):
        ir = ir.replace(default, "")
    return Source(path, False, ir.encode())


@functools.lru_cache
def _defaults(triple: str, arguments: tuple[str, ...], time_limit: float) -> frozenset[str]:
    """Return the target attributes that clang adds to every function: they are its default, not a request."""
    with tempfile.TemporaryDirectory(prefix="cpufeat-") as folder:
        empty = Path(folder, "empty.c")
        empty.write_text("void empty(void) {}\n")
        return frozenset(_TARGET.findall(_compile(str(empty), triple, arguments, time_limit)[0]))


def _compile(path: str, triple: str, arguments: tuple[str, ...], time_limit: float) -> tuple[str, str]:
    """Return IR, and the compiler's messages."""
    try:
        with tempfile.TemporaryDirectory(prefix="cpufeat-") as folder:
            output = Path(folder, "module.ll")
            command = [*zig.compiler(triple), *_OPTIONS, *arguments, path, "-o", str(output)]
            ended = processes.run(command, seconds=time_limit, environment=zig.environment(Path(folder, "cache")))
            # A comment in it has the file's name, in any encoding.
            ir = output.read_text("utf-8", "replace") if output.exists() else ""
    except OSError as error:
        reason = ": ".join(filter(None, (error.filename, error.strerror)))
        raise CompileError(f"{path}: not compiled: {reason}") from None
    except CpufeatError:
        raise
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise CompileError(f"{path}: not compiled: {error}") from None
    messages = ended.stderr.start.decode(errors="replace").strip()
    if ended.expired:
        raise CompileError(f"{path}: the C compiler exceeded the time limit of {time_limit:g} s")
    if ended.status or not ir:
        raise CompileError(messages or f"{path}: the C compiler ended with status {ended.status}")
    return ir, messages


def _operand(path: str) -> str:
    """Return a path that clang cannot take for an option (``-x.c``) or a file of options (``@x.c``)."""
    return path if Path(path).is_absolute() else f"./{path}"


def _keeps_frame_pointers(triple: str) -> bool:
    """Whether a system's ABI requires frame pointers: Apple's does."""
    return triples.parts(triple)[1] == "darwin"
