"""Emit run-time feature tests for 64-bit Arm: the kernel's report, by the rules of :mod:`cpufeat.detection.arch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat import tables
from cpufeat.aot.runtime.feature_tests import Condition, FeatureTests, Field, sysctl
from cpufeat.decisions import DIFFERS
from cpufeat.detection.arch.aarch64_darwin import KEYS
from cpufeat.detection.arch.identity import Erratum
from cpufeat.levels import baseline, level_features
from cpufeat.support.conditions import Term

if TYPE_CHECKING:
    from cpufeat.aot.llvm.builder import Body
    from cpufeat.features import Feature

_IFUNC_ARG_HWCAP = 1 << 62
"""Set in a resolver's first argument if there is a second one (<sys/ifunc.h> of glibc and Bionic)."""
_HWCAP_CPUID = Term("hwcap[11]")


class Linux(FeatureTests):
    """The auxiliary vector (:mod:`cpufeat.detection.arch.arm_cores`)."""

    words: tuple[str, ...] = ("hwcap", "hwcap2", "hwcap3")
    resolver_parameters = "i64 %hwcap, i64* %argument"
    numbers: tuple[int, ...] = (16, 26, 29)
    """AT_HWCAP, AT_HWCAP2, AT_HWCAP3 (<linux/auxvec.h>)."""

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return the row's bits; for a feature that some kernels report wrongly, HWCAP_CPUID as well.

        Emitted code cannot tell whether it runs on a core that ``errata.tsv`` lists. Linux 4.11 and later report only
        what all cores have, and set HWCAP_CPUID; a feature that a core has with an erratum passes.
        """
        needs = (_HWCAP_CPUID,) if feature.name in _doubtful() else ()
        alternatives = [
            tuple(Field(term.word, term.low) for term in (*needs, *terms)) for terms in feature.condition.alternatives
        ]
        return tuple(fields for fields in alternatives if all(field.word in self.words for field in fields))

    def arguments(self, body: Body) -> str:
        """Call ``getauxval``."""
        return ", ".join(f"i64 {body.let(f'call i64 @getauxval(i64 {number})')}" for number in self.numbers)

    def resolver_arguments(self, body: Body) -> str:
        """Read the resolver's arguments. Before glibc 2.30 and Android 11 there is only the first."""
        further_words = (
            body.let(f"call i64 @__cpufeat_argument(i64 %hwcap, i64* %argument, i64 {index})")
            for index in range(2, len(self.words) + 1)
        )
        return ", ".join(f"i64 {word}" for word in ("%hwcap", *further_words))

    def primitives(self) -> str:
        """Declare ``getauxval``."""
        return "declare i64 @getauxval(i64)"

    def helpers(self) -> str:
        """Define ``@__cpufeat_argument``, which reads a word of ``__ifunc_arg_t``; the first is its size in bytes."""
        return f"""
define internal i64 @__cpufeat_argument(i64 %hwcap, i64* %argument, i64 %index) {self.attributes} {{
  %flag = and i64 %hwcap, {_IFUNC_ARG_HWCAP}
  %is.given = icmp ne i64 %flag, 0
  br i1 %is.given, label %measure, label %none
measure:
  %size = load i64, i64* %argument
  %start = shl i64 %index, 3
  %is.held = icmp ugt i64 %size, %start
  br i1 %is.held, label %read, label %none
read:
  %place = getelementptr i64, i64* %argument, i64 %index
  %word = load i64, i64* %place
  ret i64 %word
none:
  ret i64 0
}}
"""


def _doubtful() -> frozenset[str]:
    """Return the features above the baseline that old kernels reported of cores without them, by ``errata.tsv``."""
    rows = (Erratum(*cells) for cells in tables.rows("arm/errata.tsv"))
    listed = " ".join(row.features for row in rows if row.reason == DIFFERS)
    return frozenset(listed.split()) - level_features("aarch64", baseline("aarch64")).names


class Bsd(Linux):
    """FreeBSD and OpenBSD: ``elf_aux_info``, with Linux's bits."""

    words: tuple[str, ...] = ("hwcap", "hwcap2")
    resolver_parameters = ""
    needs_library = True
    numbers: tuple[int, ...] = (25, 26)
    """AT_HWCAP, AT_HWCAP2 (FreeBSD ``sys/elf_common.h``, OpenBSD ``sys/auxv.h``)."""

    def arguments(self, body: Body) -> str:
        """Call ``elf_aux_info``."""
        return ", ".join(f"i64 {body.let(f'call i64 @__cpufeat_auxiliary(i32 {number})')}" for number in self.numbers)

    def resolver_arguments(self, body: Body) -> str:
        """Return the same as in a constructor."""
        return self.arguments(body)

    def primitives(self) -> str:
        """Declare ``elf_aux_info``."""
        return "declare i32 @elf_aux_info(i32, i8*, i32)"

    def helpers(self) -> str:
        """Define ``@__cpufeat_auxiliary``."""
        return f"""
define internal i64 @__cpufeat_auxiliary(i32 %number) {self.attributes} {{
  %written = alloca i64
  store i64 0, i64* %written
  %bytes = bitcast i64* %written to i8*
  %failed = call i32 @elf_aux_info(i32 %number, i8* %bytes, i32 8)
  %word = load i64, i64* %written
  ret i64 %word
}}
"""


class Darwin(FeatureTests):
    """macOS: ``hw.optional`` (:mod:`cpufeat.detection.arch.aarch64_darwin`)."""

    needs_library = True

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return the variables that report the feature, under their current or their first names."""
        named = [[prefix + name for name in feature.spellings.get(spelling, ())] for spelling, prefix in KEYS]
        return tuple(tuple(map(Field, names)) for names in named if names)

    def word(self, body: Body, name: str) -> str:
        """Read a variable."""
        return body.let(f"call i64 @__cpufeat_sysctl(i8* {body.text(name)})")

    def primitives(self) -> str:
        """Declare ``sysctlbyname`` and define ``@__cpufeat_sysctl``."""
        return sysctl(self.attributes)


class Windows(FeatureTests):
    """``IsProcessorFeaturePresent`` (:mod:`cpufeat.detection.arch.aarch64_windows`)."""

    needs_library = True

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return the PF_ numbers that report the feature."""
        numbers = feature.spellings.get("windows", ())
        return (tuple(map(Field, numbers)),) if numbers else ()

    def word(self, body: Body, name: str) -> str:
        """Ask about a PF_ number."""
        answer = body.let(f"call i32 @IsProcessorFeaturePresent(i32 {name})")
        return body.let(f"zext i1 {body.let(f'icmp ne i32 {answer}, 0')} to i64")

    def primitives(self) -> str:
        """Declare ``IsProcessorFeaturePresent``."""
        return "declare i32 @IsProcessorFeaturePresent(i32)"


BY_SYSTEM: dict[str, type[FeatureTests]] = {
    "linux": Linux,
    "freebsd": Bsd,
    "openbsd": Bsd,
    "darwin": Darwin,
    "windows": Windows,
}
"""The tests for each system of a triple."""
