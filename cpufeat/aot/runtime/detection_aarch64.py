"""What emitted code reads on 64-bit Arm: what the kernel says, by the rules of :mod:`cpufeat.detection.arch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat import tables
from cpufeat.aot.runtime.detection import Condition, Field, Reader, sysctl
from cpufeat.detection.arch.aarch64_darwin import KEYS
from cpufeat.levels import baseline, level_features

if TYPE_CHECKING:
    from cpufeat.aot.llvm.builder import Body
    from cpufeat.features import Feature

_IFUNC_ARG_HWCAP = 1 << 62
"""Set in a resolver's first argument where there is a second (<sys/ifunc.h> of glibc and Bionic)."""
_HWCAP_CPUID = "hwcap[11]"


class Linux(Reader):
    """The auxiliary vector (:mod:`cpufeat.detection.arch.arm`)."""

    words: tuple[str, ...] = ("hwcap", "hwcap2", "hwcap3")
    resolver_parameters = "i64 %hwcap, i64* %argument"
    numbers: tuple[int, ...] = (16, 26, 29)
    """AT_HWCAP, AT_HWCAP2, AT_HWCAP3 (<linux/auxvec.h>)."""

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return the row's bits; for what some kernels report wrongly, also the bit of those that do not.

        Which core it is that a row of ``errata.tsv`` is about cannot be told here. Linux 4.11 and later report what all
        cores have, and have HWCAP_CPUID.
        """
        is_doubtful = feature.name in _doubtful()
        bits = f"{_HWCAP_CPUID}&{feature.bit}".replace("|", f"|{_HWCAP_CPUID}&") if is_doubtful else feature.bit
        alternatives = [tuple(map(_field, one.split("&"))) for one in bits.split("|") if one]
        return tuple(fields for fields in alternatives if all(field.word in self.words for field in fields))

    def called(self, body: Body) -> str:
        """Call ``getauxval``."""
        return ", ".join(f"i64 {body.let(f'call i64 @getauxval(i64 {number})')}" for number in self.numbers)

    def resolved(self, body: Body) -> str:
        """Read the arguments of a resolver: before glibc 2.30 and Android 11 there is but the first."""
        more = (
            body.let(f"call i64 @__cpufeat_argument(i64 %hwcap, i64* %argument, i64 {index})")
            for index in range(2, len(self.words) + 1)
        )
        return ", ".join(f"i64 {word}" for word in ("%hwcap", *more))

    def instructions(self) -> str:
        """Declare ``getauxval``."""
        return "declare i64 @getauxval(i64)"

    def helpers(self) -> str:
        """Define ``@__cpufeat_argument``: a word of ``__ifunc_arg_t``, which begins with its own size in bytes."""
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


def _field(text: str) -> Field:
    """Read ``hwcap2[31]``."""
    word, _, bit = text.rstrip("]").partition("[")
    return Field(word, int(bit))


def _doubtful() -> frozenset[str]:
    """Return what ``errata.tsv`` withholds from some core and is not the baseline."""
    listed = " ".join(names for *_, names, _, _ in tables.rows("arm/errata.tsv"))
    return frozenset(listed.split()) - level_features("aarch64", baseline("aarch64")).names


class Bsd(Linux):
    """FreeBSD and OpenBSD: ``elf_aux_info``, with Linux's bits."""

    words = ("hwcap", "hwcap2")
    resolver_parameters = ""
    needs_library = True
    numbers = (25, 26)
    """AT_HWCAP, AT_HWCAP2 (FreeBSD ``sys/elf_common.h``, OpenBSD ``sys/auxv.h``)."""

    def called(self, body: Body) -> str:
        """Call ``elf_aux_info``."""
        return ", ".join(f"i64 {body.let(f'call i64 @__cpufeat_auxiliary(i32 {number})')}" for number in self.numbers)

    def resolved(self, body: Body) -> str:
        """Do as in a constructor."""
        return self.called(body)

    def instructions(self) -> str:
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


class Darwin(Reader):
    """macOS: ``hw.optional`` (:mod:`cpufeat.detection.arch.aarch64_darwin`)."""

    needs_library = True

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return the variables that stand for the feature, under today's names or the first."""
        named = [[prefix + name for name in feature.spellings.get(spelling, ())] for spelling, prefix in KEYS]
        return tuple(tuple(map(Field, names)) for names in named if names)

    def word(self, body: Body, name: str) -> str:
        """Read a variable."""
        return body.let(f"call i64 @__cpufeat_sysctl(i8* {body.text(name)})")

    def instructions(self) -> str:
        """Declare ``sysctlbyname``, and make it easy to use."""
        return sysctl(self.attributes)


class Windows(Reader):
    """``IsProcessorFeaturePresent`` (:mod:`cpufeat.detection.arch.aarch64_windows`)."""

    needs_library = True

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return the numbers that stand for the feature."""
        numbers = feature.spellings.get("windows", ())
        return (tuple(map(Field, numbers)),) if numbers else ()

    def word(self, body: Body, name: str) -> str:
        """Ask for a number."""
        answer = body.let(f"call i32 @IsProcessorFeaturePresent(i32 {name})")
        return body.let(f"zext i1 {body.let(f'icmp ne i32 {answer}, 0')} to i64")

    def instructions(self) -> str:
        """Declare ``IsProcessorFeaturePresent``."""
        return "declare i32 @IsProcessorFeaturePresent(i32)"


READERS: dict[str, type[Reader]] = {
    "linux": Linux,
    "freebsd": Bsd,
    "openbsd": Bsd,
    "darwin": Darwin,
    "windows": Windows,
}
"""By the triple's system."""
