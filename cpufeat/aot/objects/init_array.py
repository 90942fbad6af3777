"""Move an ELF object's constructors from ``.ctors`` to ``.init_array``, where every linker finds them.

LLVM as llvmlite sets it up lists constructors in ``.ctors`` sections, the last one first, as was once the custom. GNU
ld turns those into ``.init_array``; lld, which ``zig cc`` uses, does not: they would never run. In COFF and Mach-O
objects LLVM lists them where linkers look.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from cpufeat.binary_format.elf import SHT_FINI_ARRAY, SHT_INIT_ARRAY, SHT_REL, SHT_RELA
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from cpufeat.aot.objects.elf import Elf

_OLD = re.compile(rb"\.(ctors|dtors)(?:\.(\d{5}))?\0")
_NEW = {b"ctors": (b".init_array", SHT_INIT_ARRAY), b"dtors": (b".fini_array", SHT_FINI_ARRAY)}


def modernize(elf: Elf) -> Elf:
    """Return an object with its constructors and destructors in ``.init_array`` and ``.fini_array``.

    Raises ArtifactError for a damaged file.
    """
    try:
        return _modernize(elf)
    except (struct.error, ValueError) as error:
        raise ArtifactError(f"a damaged ELF file: {error}") from None


def _modernize(elf: Elf) -> Elf:
    names, sections, body = elf.names(), list(elf.sections), bytearray(elf.content)
    for index, section in enumerate(elf.sections):
        old = _OLD.match(names, section.name)
        if old:
            name, kind = _NEW[old[1]]
            priority = b".%d" % (65535 - int(old[2])) if old[2] else b""
            sections[index] = section._replace(name=len(names), type=kind)
            names += name + priority + b"\0"
            _reverse(elf, index, body)
    return elf if sections == elf.sections else elf.edited(bytes(body), sections, names)


def _reverse(elf: Elf, index: int, body: bytearray) -> None:
    """Reverse the order of a section's pointers and of the relocations of these."""
    pointer = struct.Struct(elf.order + elf.word)
    section = elf.sections[index]
    slots = [row[0] for row in pointer.iter_unpack(elf.content_of(section))]
    struct.pack_into(f"{elf.order}{len(slots)}{elf.word}", body, section.offset, *reversed(slots))
    tables = [table for table in elf.sections if table.type in (SHT_REL, SHT_RELA) and table.info == index]
    for relocations in tables:
        for at in range(relocations.offset, relocations.offset + relocations.size, relocations.entsize):
            (offset,) = pointer.unpack_from(body, at)
            pointer.pack_into(body, at, section.size - pointer.size - offset)
