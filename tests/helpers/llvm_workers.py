"""Workers with other LLVMs, and a compile that ignores warnings, for the tests of ``cpufeat.aot``."""

from __future__ import annotations

import functools
import subprocess
import warnings
from typing import TYPE_CHECKING, Any

from cpufeat import CpufeatWarning, Target, aot
from cpufeat.aot.cache import memo
from cpufeat.aot.worker import client, worker_command

if TYPE_CHECKING:
    import pytest

VECTOR = "<16 x float>"
ADD = f"define {VECTOR} @add({VECTOR} %a, {VECTOR} %b) GROUP {{ %r = fadd {VECTOR} %a, %b\nret {VECTOR} %r }}"
"""Code whose instructions show what it is compiled for. ``GROUP`` stands for the function's attributes."""


def compile_quietly(module: object, target: Target | str | None, **options: Any) -> aot.Artifact:
    """Compile, ignoring warnings that are expected and not the point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CpufeatWarning)
        return aot.compile(module, target, **options)


def use_llvm_of(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the worker be another interpreter, with the llvmlite that it has."""
    monkeypatch.setattr("sys.executable", python)
    for module in (worker_command, memo):
        monkeypatch.setattr(module, "origin", lambda package, extra: _llvmlite_of(python))
    end_worker()


def end_worker() -> None:
    """End the worker, so that the next job starts one."""
    if client._worker is not None:
        client._worker.finish()


@functools.cache
def _llvmlite_of(python: str) -> str:
    code = "import importlib.util; print(importlib.util.find_spec('llvmlite').origin)"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
