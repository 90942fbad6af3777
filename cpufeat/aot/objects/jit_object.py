"""Prepare an object for the in-process JIT linker, which runs no constructors or ifunc resolvers.

The variant that these would select is known already. Dispatched symbols become names of that variant's clone, and the
variable that keeps the selection is set. cpufeat's own constructors need not run; others are refused.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cpufeat.aot.objects.elf import Elf
from cpufeat.binary_format.elf import ET_REL, SHF_TLS, SHT_INIT_ARRAY, SHT_REL, SHT_RELA, STT_FUNC, STT_GNU_IFUNC
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpufeat.binary_format.elf import Symbol

_OWN_PREFIX = "__cpufeat_"
_PICKED = "__cpufeat_picked"
"""The variable that holds the index of the selected variant, an ``i32``."""


def loadable(code: bytes, labels: Sequence[str], picked: int) -> Elf:
    """Return an object in which one of the variants is selected.

    ``labels`` are the suffixes of the names of the variants' clones, ``picked`` is the index of the variant. Raises
    ArtifactError for an object that cannot be linked into this process.
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
    symbols = elf.all_symbols()
    own_places = {(symbol.shndx, symbol.value) for symbol in symbols if symbol.name.startswith(_OWN_PREFIX)}
    if not own_places.issuperset(_constructors(elf, symbols)):
        raise ArtifactError("LLVM would not run the constructors: link a shared library, and load that with ctypes")
    return _as_picked(elf, symbols, labels[picked], picked) if len(labels) > 1 else elf


def _constructors(elf: Elf, symbols: list[Symbol]) -> Iterator[tuple[int, int]]:
    """Yield the section of each constructor and its offset there, as the relocation of its pointer says."""
    for section in elf.sections:
        pointers = elf.sections[section.info] if section.info < len(elf.sections) else None
        if section.type in (SHT_REL, SHT_RELA) and pointers and pointers.type == SHT_INIT_ARRAY:
            stored = elf.content_of(pointers)
            for relocation in elf.relocations(section):
                symbol, addend = symbols[relocation.symbol], relocation.addend
                if addend is None:
                    (addend,) = struct.unpack_from(elf.order + elf.word.lower(), stored, relocation.offset)
                yield symbol.shndx, symbol.value + addend


def _as_picked(elf: Elf, symbols: list[Symbol], label: str, picked: int) -> Elf:
    """Make each ``ifunc`` a name of the clone with a label, and set the variable that keeps the selection.

    A local ``ifunc`` is called ``f.ifunc`` (:mod:`cpufeat.aot.runtime.dispatcher`).
    """
    body, by_name = bytearray(elf.content), {symbol.name: symbol for symbol in symbols}
    for symbol in symbols:
        if symbol.type == STT_GNU_IFUNC:
            clone = by_name.get(f"{symbol.name.removesuffix('.ifunc')}.{label}")
            if clone is None:
                raise ArtifactError(f"the names of its variants were stripped: there is no {symbol.name}.{label}")
            elf.define(body, symbol, clone, STT_FUNC)
    variable = by_name.get(_PICKED)
    if variable is None:
        raise ArtifactError(f"the names of its variants were stripped: there is no {_PICKED}")
    struct.pack_into(f"{elf.order}i", body, elf.sections[variable.shndx].offset + variable.value, picked)
    return Elf(bytes(body))
