"""Find the command that starts the worker: a Python interpreter, or an application frozen with cpufeat's hook.

Any other application in which Python is embedded or frozen is never started as a worker: it would do its own work once
more, which may well be to compile.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from cpufeat.errors import CompileError
from cpufeat.support.extras import origin
from cpufeat.tables import PACKAGE

FROZEN_WORKER = "--cpufeat-worker"
"""The argument with which a frozen application becomes a worker. The run-time hook (``cpufeat/__pyinstaller``) handles
it, and sets an attribute of :mod:`sys` to it."""
_ATTRIBUTE = "_cpufeat_worker"
_INTERPRETER = re.compile(r"(python|pypy|graalpy)w?[\d.]*[a-z]*(\.exe)?", re.IGNORECASE)
_BOOTSTRAP = """
import sys
from importlib import machinery, util
for name, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    spec = machinery.PathFinder.find_spec(name, [folder])
    sys.modules[name] = util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
from cpufeat.aot.worker.server import serve
serve()
"""
"""Loads the caller's copies of llvmlite and cpufeat, by path: ``sys.path`` and ``PYTHONPATH`` are not searched."""


def command() -> list[str]:
    """Return the command that serves as the worker. Raises CompileError where there is none."""
    llvmlite = Path(origin("llvmlite", "aot")).parent
    if getattr(sys, _ATTRIBUTE, None) == FROZEN_WORKER:
        return [sys.executable, FROZEN_WORKER]
    packages = [part for path in (llvmlite, Path(PACKAGE)) for part in (path.name, str(path.parent))]
    return [_interpreter(), "-I", "-S", "-c", _BOOTSTRAP, *packages]


def _interpreter() -> str:
    own = "" if hasattr(sys, "frozen") else sys.executable or ""
    for path in (own, _installed()):
        if _INTERPRETER.fullmatch(Path(path).name) and os.access(path, os.X_OK):
            return path
    program = f"{sys.executable} is another program" if sys.executable else "Python is embedded in another program"
    raise CompileError(
        f"{program}, and there is no Python interpreter to run LLVM in a worker process: "
        'pass isolation="none" to run LLVM in this process'
    )


def _installed() -> str:
    """Return the path that the interpreter of this Python's installation has."""
    prefix = Path(sys.base_exec_prefix)
    if sys.platform == "win32":
        return str(prefix / "python.exe")
    name = "python" if sys.implementation.name == "cpython" else sys.implementation.name
    version = ".".join(map(str, sys.version_info[:2]))
    return str(prefix / "bin" / f"{name}{version}{sys.abiflags}")
