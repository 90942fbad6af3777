"""An object in the form in which it can be linked into this process, where neither constructors nor resolvers run.

What those would find out is known: which variant it is to be. Symbols that are resolved when a program is loaded get
the address of that variant's clone, and code that would ask gets the answer. cpufeat's own constructors are left out.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cpufeat.aot.objects.elf import ET_REL, SHF_TLS, SHT_INIT_ARRAY, SHT_REL, SHT_RELA, STT_FUNC, STT_GNU_IFUNC, Elf
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpufeat.aot.objects.elf import Symbol

_OURS = "__cpufeat_"
_PICKED = "__cpufeat_picked"
"""The variable that holds which variant was picked, an ``i32``."""
_RELOCATION = {
    (1, SHT_REL): ("2I", 8),
    (1, SHT_RELA): ("2Ii", 8),
    (2, SHT_REL): ("2Q", 32),
    (2, SHT_RELA): ("2Qq", 32),
}
"""By the file's class and the section's type: offset, info and addend, and how far up in info the symbol's index is."""
_ADDEND = {1: "i", 2: "q"}
"""Where the relocation states none, it stands in the place itself."""


def loadable(code: bytes, labels: Sequence[str], picked: int) -> Elf:
    """Return an object without whatever chooses between variants.

    ``labels`` are what the names of the variants' clones end in, ``picked`` is the index of one. Raises ArtifactError
    for what cannot be linked here.
    """
    try:
        return _loadable(Elf(code), labels, picked)
    except (struct.error, IndexError) as error:
        raise ArtifactError(f"a damaged object: {error}") from None


def _loadable(elf: Elf, labels: Sequence[str], picked: int) -> Elf:
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
    for section in elf.sections:
        pointers = elf.sections[section.info] if section.info < len(elf.sections) else None
        if (elf.elf_class, section.type) in _RELOCATION and pointers and pointers.type == SHT_INIT_ARRAY:
            layout, shift = _RELOCATION[elf.elf_class, section.type]
            stored = elf.bytes_of(pointers)
            for offset, info, *stated in struct.iter_unpack(elf.order + layout, elf.bytes_of(section)):
                symbol = symbols[info >> shift]
                (addend,) = stated or struct.unpack_from(elf.order + _ADDEND[elf.elf_class], stored, offset)
                yield symbol.shndx, symbol.value + addend


def _as_picked(elf: Elf, symbols: list[Symbol], label: str, picked: int) -> Elf:
    """Let each ``ifunc`` be the clone with a label, and the variable that keeps what was picked be set.

    A local ``ifunc`` is called ``f.ifunc`` (:mod:`cpufeat.aot.runtime.dispatcher`).
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
