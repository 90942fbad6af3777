"""Find the command that starts the worker: a Python interpreter, or an application frozen with cpufeat's hook.

Any other application in which Python is embedded or frozen is never started as a worker: it would do its own work once
more, which may well be to compile.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cpufeat.errors import CompileError
from cpufeat.support.extras import origin
from cpufeat.support.interpreter import interpreter
from cpufeat.tables import PACKAGE

FROZEN_WORKER = "--cpufeat-worker"
"""The argument with which a frozen application becomes a worker. The run-time hook (``cpufeat/__pyinstaller``) handles
it, and sets an attribute of :mod:`sys` to it."""
_ATTRIBUTE = "_cpufeat_worker"
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
    path = interpreter()
    if path:
        return path
    program = f"{sys.executable} is another program" if sys.executable else "Python is embedded in another program"
    raise CompileError(
        f"{program}, and there is no Python interpreter to run LLVM in a worker process: "
        'pass isolation="none" to run LLVM in this process'
    )
