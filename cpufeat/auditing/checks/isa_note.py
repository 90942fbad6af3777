"""Check the ISA levels that an x86 ELF file states in ``.note.gnu.property`` against what its code needs.

glibc's loader refuses a file whose *needed* level the CPU lacks; *used* only informs: a file may use what it checks
for. The properties of AArch64 (BTI, PAC, GCS) state no instructions. The format of the note is in
:mod:`cpufeat.binary_format.gnu_property`.
"""

from __future__ import annotations

from cpufeat.auditing.report import IsaNote
from cpufeat.binary_format.gnu_property import ISA_1_NEEDED, ISA_1_USED, SECTION, properties
from cpufeat.levels import level_features, levels
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.auditing.formats.image import Image
    from cpufeat.features import FeatureSet


def isa_note(image: Image, needs: FeatureSet, bare: FeatureSet) -> IsaNote | None:
    """Return the levels that an x86-64 file states, and what is wrong with them; None if it states none.

    ``needs`` are the features of all its instructions, which are compared with the level *used*; ``bare`` are those
    used without a run-time check, which are compared with the level *needed*.
    """
    section = image.section(SECTION)
    if image.arch != "x86_64" or section is None:
        return None
    stated = {ISA_1_NEEDED: 0, ISA_1_USED: 0}
    for kind, value in properties(bytes(section.content), image.bits // 8):
        if kind in stated:
            stated[kind] |= value
    if not any(stated.values()):
        return None
    faults = [*_faults("needed", stated[ISA_1_NEEDED], bare), *_faults("used", stated[ISA_1_USED], needs)]
    return IsaNote(_level(stated[ISA_1_NEEDED]), _level(stated[ISA_1_USED]), tuple(faults))


def _level(bits: int) -> str:
    """Return the highest level of a mask, in which bit 0 is the baseline; empty if there is none or it is unknown."""
    names = ["", *levels("x86_64")]
    return names[bits.bit_length()] if bits.bit_length() < len(names) else ""


def _faults(role: str, bits: int, features: FeatureSet) -> Iterator[str]:
    """Yield the faults of a mask of levels: it states more or less than the features that occur."""
    stated, occurs, known = _level(bits), _lowest_level(features), list(levels(features.arch))
    if bits and not stated:
        yield f"states a level as {role} that is not known here (bits {bits:#x})"
    if not stated or stated == occurs:
        return
    fault = f"states {stated} as {role}: the code's instructions are of {occurs}"
    lacking = features & (level_features(features.arch, occurs) - level_features(features.arch, stated))
    yield fault if known.index(stated) > known.index(occurs) else f"{fault} ({', '.join(lacking)})"


def _lowest_level(features: FeatureSet) -> str:
    """Return the lowest level with all those features, and features they imply, that belong to any level."""
    known, closed = levels(features.arch), features.closed().names
    extra = [name for name, adds in known.items() if closed.intersection(adds)]
    return extra[-1] if extra else next(iter(known))
