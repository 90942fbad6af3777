"""What the code in an object needs, as its guard reads it, and as glibc's loader does.

For the guard there is a table: some bytes to find it by; a sign for all, ``!`` where whatever runs needs something,
``+`` where a variant may run that needs something else, ``-`` where nothing is needed; features, ``+avx2`` where the
code needs it and ``-avx2`` where not, each ended by a NUL; one more NUL. Code may need all that its target has. What it
does need is known when its instructions have been read, and then the table is narrowed. An ELF object for x86-64 whose
needs amount to a level of the psABI states that as well.
"""

from __future__ import annotations

import functools
import re
import struct
from typing import TYPE_CHECKING

from cpufeat import llvm_tables
from cpufeat.aot.objects.elf import EM_X86_64, MAGIC, SHF_ALLOC, SHT_NOTE, Elf
from cpufeat.errors import ArtifactError
from cpufeat.levels import level_features, levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.features import FeatureSet

NEEDED, NOT_NEEDED = b"+", b"-"
ALWAYS, SOMETIMES, FREE = b"!", b"+", b"-"
_BEGIN = b"\x7fcpufeat needs\x9d"
_TABLE = re.compile(re.escape(_BEGIN) + rb"([!+-])((?:[+-]\w+\0)+)\0")
_ROW = re.compile(rb"[+-](\w+)")
_NT_GNU_PROPERTY_TYPE_0, _ISA_1_NEEDED = 5, 0xC0008002
"""Linux gABI extensions; x86-64 psABI, Linux extensions, "Program Property"."""


def table(names: Sequence[str], *, states_level: bool = False) -> bytes:
    """Return the table of code that needs all of these features, which may state their level or not."""
    rows = b"".join(NEEDED + name.encode() + b"\0" for name in names)
    return _BEGIN + (ALWAYS if states_level else SOMETIMES) + rows + b"\0"


def sign_at(names: Sequence[str], index: int | None = None) -> int:
    """Return where in the table the sign of a feature stands, or the one for all."""
    return len(_BEGIN) if index is None else len(table(names[:index])) - 1


def narrow(content: bytes, used: FeatureSet) -> bytes:
    """Return an object whose guard asks for no more than ``used``, what the last target's instructions need.

    In an ELF object for x86-64 it states their level as well (:func:`isa_level`), unless it is one to be asked. Without
    a guard it comes back as it is. Raises ArtifactError for an object with several.
    """
    tables = list(_TABLE.finditer(content))
    if not tables:
        return content
    if len(tables) > 1:
        raise ArtifactError("the object holds several tables of what it needs: does its data contain another one?")
    (found,) = tables
    sign, rows = found.groups()
    left = _ROW.sub(lambda row: row[0] if row[1].decode() in used else NOT_NEEDED + row[1], rows)
    whole = (sign if NEEDED in left else FREE) + left
    narrowed = content[: found.start(1)] + whole + content[found.end(2) :]
    level = isa_level(used) if whole.startswith(ALWAYS) else ""
    return _stating(narrowed, level) if level else narrowed


def demanded(content: bytes) -> frozenset[str]:
    """Return the features without which the guards in an object, or in what was linked from it, let nothing run."""
    always = b"".join(rows for sign, rows in _TABLE.findall(content) if sign == ALWAYS)
    return frozenset(row[1].decode() for row in _ROW.finditer(always) if row[0].startswith(NEEDED))


@functools.lru_cache
def isa_level(used: FeatureSet) -> str:
    """Return the level above the baseline that features amount to, empty if there is none.

    It is the lowest that has them all, if every CPU that LLVM knows and that has them all has that level: code with
    AVX2 and FMA needs x86-64-v3, while code with AVX alone, or with AVX512VNNI, needs no level.
    """
    lowest, *higher = levels(used.arch)
    isa, cpus = used.isa, llvm_tables.load(used.arch)
    level = next((name for name in (lowest, *higher) if isa <= level_features(used.arch, name)), lowest)
    if level == lowest:
        return ""
    has = [features for cpu in cpus.cpus if (features := cpus.cpu_features(cpu))]
    amounts = all(level_features(used.arch, level) <= features for features in has if isa <= features)
    return level if amounts else ""


def _stating(content: bytes, level: str) -> bytes:
    """Return an ELF object for x86-64 with the property that it needs a level; others come back as they are.

    Linkers join properties of this kind by "or" (x86-64 psABI, Linux extensions), or drop them, as lld does.
    """
    if not content.startswith(MAGIC) or Elf(content).header.machine != EM_X86_64:
        return content
    bits = (2 << list(levels("x86_64")).index(level)) - 1
    property_ = struct.pack("<4I", _ISA_1_NEEDED, 4, bits, 0)
    payload = struct.pack("<3I4s", 4, len(property_), _NT_GNU_PROPERTY_TYPE_0, b"GNU\0") + property_
    return Elf(content).with_section(b".note.gnu.property", SHT_NOTE, SHF_ALLOC, payload, 8)
