"""Read the headers of an ELF file: architecture, kind and sections; refuse damaged files and ones costly to audit."""

from __future__ import annotations

import struct
from functools import cached_property
from itertools import pairwise

from cpufeat.binary_format import elf_dynamic
from cpufeat.binary_format.elf import (
    ET_CORE,
    ET_EXEC,
    ET_REL,
    PF_W,
    PF_X,
    PT_GNU_EH_FRAME,
    PT_INTERP,
    PT_LOAD,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_DYNSYM,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_SYMTAB,
    Elf,
    Section,
    Segment,
)
from cpufeat.binary_format.names import cost_too_much
from cpufeat.errors import AuditError
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ARCHITECTURES = {
    2: "sparc",
    3: "i686",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    43: "sparcv9",
    62: "x86_64",
    183: "aarch64",
    224: "amdgpu",
    243: "riscv{}",
    247: "bpf",
    258: "loongarch{}",
}
"""e_machine -> cpufeat's name, in which ``{}`` stands for the bits of the file's class."""
_BY_ORDER = {("aarch64", ">"): "aarch64_be", ("ppc64", "<"): "ppc64le"}
"""cpufeat's names of architectures with both byte orders, by the rarer one."""
_SELF_RELATIVE_32 = 0x1B
"""DW_EH_PE_pcrel | DW_EH_PE_sdata4: the only way in which linkers write the address of the unwind table."""
_MAX_ALIGNMENT = 1 << 32


class ElfFile(Value):
    """An ELF file: its tables, and what the audit tells from its headers."""

    elf: Elf
    name: str
    arch: str
    kind: str
    """``object``, ``executable`` or ``library``."""
    sections: list[Section]
    """The sections; in a file without headers of executable sections, its loaded segments, then the tables that its
    dynamic section names."""
    dynamic: Mapping[int, int]
    """The value of each tag of the dynamic section."""

    @property
    def entry(self) -> int | None:
        """The address at which a program starts, if there is one."""
        return self.elf.header.entry or None

    def of_type(self, *types: int) -> list[int]:
        """Return the indices of the sections of those types."""
        return [index for index, section in enumerate(self.sections) if section.type in types]

    def name_of(self, section: Section) -> str:
        """Return a section's name, empty if it has none."""
        end = self._names.find(b"\0", section.name)
        return self._names[section.name : end if end >= 0 else None].decode(errors="replace")

    def unwind_tables(self) -> Iterator[tuple[int, memoryview]]:
        """Yield the address and content of each ``.eh_frame`` of a linked file."""
        named = [section for section in self.sections if self.name_of(section) == ".eh_frame"]
        yield from ((section.addr, self.elf.content_of(section)) for section in named)
        for segment in self.elf.segments:
            if segment.type == PT_GNU_EH_FRAME and not named:
                header = elf_dynamic.bytes_at(self.elf, segment.vaddr, 8)
                if len(header) == 8 and header[1] == _SELF_RELATIVE_32:
                    (distance,) = struct.unpack_from(self.elf.order + "i", header, 4)
                    address = segment.vaddr + 4 + distance
                    yield address, elf_dynamic.bytes_at(self.elf, address)

    @cached_property
    def _names(self) -> bytes:
        return self.elf.names() if any(section.name for section in self.sections) else b""


def read(content: bytes, name: str) -> ElfFile:
    """Read the headers. Raises AuditError for a damaged file, and for one that would cost too much to audit."""
    elf = Elf(content, lambda damage: AuditError(f"{name}: a damaged ELF file: {damage}"))
    arch = _ARCHITECTURES.get(elf.header.machine, f"machine {elf.header.machine}").format(elf.bits)
    arch = _BY_ORDER.get((arch, elf.order), arch)
    dynamic = elf_dynamic.values(elf)
    if elf.header.type == ET_CORE:
        raise AuditError(f"{name}: a core dump, the memory of a process that died: gdb and coredumpctl read it")
    kind = "object" if elf.header.type == ET_REL else "executable" if _is_executable(elf, dynamic) else "library"
    if not any(section.flags & SHF_EXECINSTR for section in elf.sections):
        loaded = [header for segment in elf.segments if segment.type == PT_LOAD for header in _loaded(segment)]
        elf.sections = [*loaded, *elf_dynamic.tables(elf, dynamic, len(loaded))]
    file = ElfFile(elf, name, arch, kind, elf.sections, dynamic)
    _check(file)
    return file


def _loaded(segment: Segment) -> Iterator[Section]:
    """Yield headers for the part of a segment that the file has, and for the zeros after it."""
    flags = SHF_ALLOC
    flags |= SHF_WRITE if segment.flags & PF_W else 0
    flags |= SHF_EXECINSTR if segment.flags & PF_X else 0
    stored = Section(0, SHT_PROGBITS, flags, segment.vaddr, segment.offset, segment.filesz, 0, 0, segment.align, 0)
    yield stored
    if segment.memsz > segment.filesz:
        zeros, size = segment.vaddr + segment.filesz, segment.memsz - segment.filesz
        yield stored._replace(type=SHT_NOBITS, addr=zeros, size=size, addralign=1)


def _is_executable(elf: Elf, dynamic: Mapping[int, int]) -> bool:
    """Whether a linked file is a program: it has a fixed address, an interpreter or the flag DF_1_PIE."""
    return (
        elf.header.type == ET_EXEC
        or any(segment.type == PT_INTERP for segment in elf.segments)
        or bool(dynamic.get(elf_dynamic.DT_FLAGS_1, 0) & elf_dynamic.DF_1_PIE)
    )


def _check(file: ElfFile) -> None:
    """Raise AuditError for damage, and for what would cost much more than a sound file of this size."""
    elf = file.elf
    stored = [section for section in file.sections if section.type != SHT_NOBITS]
    for section in stored:
        if section.size and section.offset + section.size > len(elf.content):
            raise elf.damaged(f"{file.name_of(section) or 'a segment'} lies outside of it")
    if sum(section.size for section in stored) > 2 * len(elf.content):
        raise elf.damaged("its sections overlap")
    if cost_too_much(file._names, (section.name for section in elf.sections)):
        raise elf.damaged("its sections' names overlap, or are too long")
    if any(len(file.of_type(kind)) > 1 for kind in (SHT_SYMTAB, SHT_DYNSYM)):
        raise elf.damaged("it has several tables of symbols of one kind")
    code = sorted((part.addr, part.addr + part.size) for part in stored if part.flags & SHF_EXECINSTR and part.size)
    if file.kind != "object" and any(before[1] > after[0] for before, after in pairwise(code)):
        raise elf.damaged("its code overlaps in memory")
    if any(section.link >= len(elf.sections) for section in elf.sections):
        raise elf.damaged("a section links to one that does not exist")
    if any(section.addr + section.size > 1 << elf.bits for section in file.sections):
        raise elf.damaged("a section lies outside of memory")
    if any(section.addralign > _MAX_ALIGNMENT or section.addralign.bit_count() > 1 for section in file.sections):
        raise elf.damaged("a section has an alignment that is no power of two, or too large")
