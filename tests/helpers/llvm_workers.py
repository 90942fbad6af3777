"""What the tests of ``cpufeat.aot`` share: other LLVMs, and outside decoders of what was emitted."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import iced_x86
from elftools.elf.elffile import ELFFile

from cpufeat import CpufeatWarning, aot
from cpufeat.aot.llvm import llvmlite_setup
from cpufeat.aot.worker import client

if TYPE_CHECKING:
    import pytest


LEGACY, VEX, EVEX = iced_x86.EncodingKind.LEGACY, iced_x86.EncodingKind.VEX, iced_x86.EncodingKind.EVEX
VECTOR = "<16 x float>"
ADD = f"define {VECTOR} @add({VECTOR} %a, {VECTOR} %b) GROUP {{ %r = fadd {VECTOR} %a, %b\nret {VECTOR} %r }}"
"""Code that shows what it is compiled for. ``GROUP`` stands for the function's attributes."""


def compile_quietly(module, target, **options):
    """Compile where warnings are to be expected and are not the point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CpufeatWarning)
        return aot.compile(module, target, **options)


def use_llvm_of(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the worker be another interpreter, with the llvmlite that it has."""
    origins = {"cpufeat": llvmlite_setup.origin("cpufeat"), "llvmlite": _llvmlite_of(python)}
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(llvmlite_setup, "origin", origins.__getitem__)
    end_worker()


def end_worker() -> None:
    """Let the next job start a worker."""
    if client._worker is not None:
        client._worker.finish()


@functools.cache
def _llvmlite_of(python: str) -> str:
    ask = [python, "-c", "import importlib.util; print(importlib.util.find_spec('llvmlite').origin)"]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def section(elf: bytes, name: str = ".text") -> bytes:
    """What a section of an object holds, as pyelftools reads it."""
    return ELFFile(io.BytesIO(elf)).get_section_by_name(name).data()


def symbols(elf: bytes) -> set[str]:
    """The names in an object's symbol table, as pyelftools reads it."""
    return {symbol.name for symbol in ELFFile(io.BytesIO(elf)).get_section_by_name(".symtab").iter_symbols()}


def decoded(elf: bytes) -> list[iced_x86.Instruction]:
    """An object's instructions, as iced-x86 decodes them."""
    return list(iced_x86.Decoder(64, section(elf)))


def encodings(elf: bytes) -> set[int]:
    """Their encodings: LEGACY, VEX, EVEX."""
    return {instruction.encoding for instruction in decoded(elf)}
