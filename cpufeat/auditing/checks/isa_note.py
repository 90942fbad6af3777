"""The ISA levels that an x86 ELF file states in ``.note.gnu.property``, against what its code needs.

glibc's loader refuses a file whose *needed* level the CPU lacks; *used* only informs: a file may use what it checks
for. Source: the x86-64 psABI's Linux extensions, "Program Property" (``GNU_PROPERTY_X86_ISA_1_NEEDED``, ``_USED``), and
the Linux gABI extensions, ``NT_GNU_PROPERTY_TYPE_0``. The properties of AArch64 (BTI, PAC, GCS) state no instructions.
"""

from __future__ import annotations

import struct

from cpufeat.auditing.report import IsaNote
from cpufeat.levels import level_features, levels
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.auditing.formats.image import Image
    from cpufeat.features import FeatureSet

_NT_GNU_PROPERTY_TYPE_0 = 5
_ISA_1_NEEDED, _ISA_1_USED = 0xC0008002, 0xC0010002


def isa_note(image: Image, needs: FeatureSet, bare: FeatureSet) -> IsaNote | None:
    """Return the levels that an x86-64 file states, and what is wrong with them; None where it states none.

    ``needs`` are the features of all its instructions, to which the level used is compared, and ``bare`` those without
    a run-time check, to which the level needed is.
    """
    section = image.section(".note.gnu.property")
    if image.arch != "x86_64" or section is None:
        return None
    stated = {_ISA_1_NEEDED: 0, _ISA_1_USED: 0}
    for kind, value in _properties(bytes(section.content), image.bits // 8):
        if kind in stated:
            stated[kind] |= value
    if not any(stated.values()):
        return None
    said = [*_faults("needed", stated[_ISA_1_NEEDED], bare), *_faults("used", stated[_ISA_1_USED], needs)]
    return IsaNote(_level(stated[_ISA_1_NEEDED]), _level(stated[_ISA_1_USED]), tuple(said))


def _properties(content: bytes, alignment: int) -> Iterator[tuple[int, int]]:
    """Yield the type and value of each property of four bytes, as far as a damaged section has them."""
    for kind, description in _notes(content, alignment):
        at = 0
        while at + 8 <= len(description):
            property_type, size = struct.unpack_from("<2I", description, at)
            if size == 4 and kind == _NT_GNU_PROPERTY_TYPE_0:
                yield property_type, int.from_bytes(description[at + 8 : at + 12], "little")
            at += 8 + size + -size % alignment


def _notes(content: bytes, alignment: int) -> Iterator[tuple[int, bytes]]:
    """Yield the type and description of each note of GNU's."""
    at = 0
    while at + 16 <= len(content):
        name_size, size, kind = struct.unpack_from("<3I", content, at)
        start = at + 12 + name_size + -name_size % 4
        if content[at + 12 : at + 12 + name_size] == b"GNU\0":
            yield kind, content[start : start + size]
        at = start + size + -size % alignment


def _level(bits: int) -> str:
    """Return the highest level of a mask whose bit 0 is the baseline; empty for none, and for one unknown here."""
    names = ["", *levels("x86_64")]
    return names[bits.bit_length()] if bits.bit_length() < len(names) else ""


def _faults(what: str, bits: int, features: FeatureSet) -> Iterator[str]:
    """Say what a mask of levels states too much or too little for the features that occur."""
    stated, occurs, known = _level(bits), _lowest_level(features), list(levels(features.arch))
    if bits and not stated:
        yield f"states a level as {what} that is not known here (bits {bits:#x})"
    if not stated or stated == occurs:
        return
    says = f"states {stated} as {what}: the code's instructions are of {occurs}"
    lacking = features & (level_features(features.arch, occurs) - level_features(features.arch, stated))
    yield says if known.index(stated) > known.index(occurs) else f"{says} ({', '.join(lacking)})"


def _lowest_level(features: FeatureSet) -> str:
    """Return the lowest level that has those of the features, and of what they imply, that any level has."""
    known, closed = levels(features.arch), features.closed().names
    extra = [name for name, adds in known.items() if closed.intersection(adds)]
    return extra[-1] if extra else next(iter(known))
