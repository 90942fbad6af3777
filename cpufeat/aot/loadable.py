"""An object in the form in which it can be linked into this process, where neither constructors nor resolvers run.

What those would find out is known: which variant it is to be. Symbols that are resolved when a program is loaded get
the address of that variant's clone, and code that would ask gets the answer. cpufeat's own constructors are left out.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cpufeat.aot.elf import ET_REL, SHF_TLS, SHT_INIT_ARRAY, SHT_RELA, STT_FUNC, STT_GNU_IFUNC, Elf
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpufeat.aot.elf import Symbol

_OURS = "__cpufeat_"
_PICKED = "__cpufeat_picked"
"""The variable that holds which variant was picked, an ``i32``."""


def loadable(code: bytes, labels: Sequence[str], picked: int) -> Elf:
    """Return an object without whatever chooses between variants.

    ``labels`` are what the names of the variants' clones end in, ``picked`` is the index of one. Raises ArtifactError
    for what cannot be linked here.
    """
    elf = Elf(code)
    if elf.header.type != ET_REL:
        raise ArtifactError("only an object can be linked into this process: load a library with ctypes")
    if any(section.flags & SHF_TLS for section in elf.sections):
        raise ArtifactError("LLVM cannot link thread-local variables into this process")
    symbols = elf.symbols()
    ours = {(symbol.shndx, symbol.value) for symbol in symbols if symbol.name.startswith(_OURS)}
    if not ours.issuperset(_constructors(elf, symbols)):
        raise ArtifactError("LLVM would not run the constructors: link a shared library, and load that with ctypes")
    return _as_picked(elf, symbols, labels[picked], picked) if len(labels) > 1 else elf


def _constructors(elf: Elf, symbols: list[Symbol]) -> Iterator[tuple[int, int]]:
    """Yield the section of each constructor, and where it is there: what the relocation of its pointer says."""
    rela = struct.Struct(f"{elf.order}QIIq" if elf.order == "<" else ">Q2Iq")
    lists = {index for index, section in enumerate(elf.sections) if section.type == SHT_INIT_ARRAY}
    for section in elf.sections:
        if section.type == SHT_RELA and section.info in lists:
            for _, _, index, addend in rela.iter_unpack(elf.bytes_of(section)):
                yield symbols[index].shndx, symbols[index].value + addend


def _as_picked(elf: Elf, symbols: list[Symbol], label: str, picked: int) -> Elf:
    """Let each ``ifunc`` be the clone with a label, and the variable that keeps what was picked be set.

    A local ``ifunc`` is called ``f.ifunc`` (:mod:`cpufeat.aot.dispatch`).
    """
    body, named = bytearray(elf.content), {symbol.name: symbol for symbol in symbols}
    for symbol in symbols:
        if symbol.type == STT_GNU_IFUNC:
            clone = named.get(f"{symbol.name.removesuffix('.ifunc')}.{label}")
            if clone is None:
                raise ArtifactError(f"the names of its variants were stripped: there is no {symbol.name}.{label}")
            elf.define(body, symbol, clone, STT_FUNC)
    answer = named.get(_PICKED)
    if answer is None:
        raise ArtifactError(f"the names of its variants were stripped: there is no {_PICKED}")
    struct.pack_into(f"{elf.order}i", body, elf.sections[answer.shndx].offset + answer.value, picked)
    return Elf(bytes(body))
