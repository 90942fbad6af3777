"""State the psABI level that an object needs in ``.note.gnu.property``, so that glibc's loader refuses older CPUs.

The start-up guard (:mod:`cpufeat.aot.runtime.guard`) refuses by single features, and under every loader.

Linkers join this property of all objects by "or" (x86-64 psABI, Linux extensions), or drop it, as lld does.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from cpufeat import llvm_tables
from cpufeat.binary_format.elf import EM_X86_64, SHF_ALLOC, SHT_NOTE
from cpufeat.binary_format.gnu_property import ISA_1_NEEDED, SECTION, note
from cpufeat.levels import level_features, levels

if TYPE_CHECKING:
    from cpufeat.aot.objects.elf import Elf
    from cpufeat.features import FeatureSet

_ALIGNMENT = 8


def with_isa_level(elf: Elf, level: str) -> Elf:
    """Return an object that states a level above the baseline; one for another machine than x86-64 is unchanged."""
    if elf.header.machine != EM_X86_64:
        return elf
    bits = (2 << list(levels("x86_64")).index(level)) - 1
    return elf.with_section(SECTION.encode(), SHT_NOTE, SHF_ALLOC, note(ISA_1_NEEDED, bits), _ALIGNMENT)


@functools.lru_cache
def isa_level(used: FeatureSet) -> str:
    """Return the level above the baseline that features amount to, empty if there is none.

    It is the lowest level with all of them, provided that every CPU known to LLVM with all of them has that level: code
    with AVX2 and FMA needs x86-64-v3, while code with AVX alone, or with AVX512VNNI, needs no level.
    """
    lowest, *higher = levels(used.arch)
    isa, cpus = used.isa, llvm_tables.load(used.arch)
    level = next((name for name in (lowest, *higher) if isa <= level_features(used.arch, name)), lowest)
    if level == lowest:
        return ""
    all_cpus = [features for cpu in cpus.cpus if (features := cpus.cpu_features(cpu))]
    is_implied = all(level_features(used.arch, level) <= features for features in all_cpus if isa <= features)
    return level if is_implied else ""
