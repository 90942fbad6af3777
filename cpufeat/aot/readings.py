"""How emitted code reads what a processor can do, as words of bits that the rows of ``features.tsv`` ask about.

It runs while a program is being loaded: it uses nothing above the baseline, and in an ``ifunc`` resolver, before
relocation is complete, no library and no data at an absolute address.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cpufeat import native, tables
from cpufeat.aot import triples
from cpufeat.aot.ir import Body, constant
from cpufeat.arch.x86 import states
from cpufeat.architectures import architecture
from cpufeat.errors import TargetError
from cpufeat.features import family
from cpufeat.levels import baseline, level_features
from cpufeat.probe.cpuid import FIRST_LEAVES, OSXSAVE, REGISTERS, SUBLEAVES_IN_EAX
from cpufeat.value import Value

if TYPE_CHECKING:
    from cpufeat.features import Feature
    from cpufeat.target import Target


class Field(Value):
    """Bits of a word, and the least number that they must hold."""

    word: str
    low: int = 0
    width: int = 1
    least: int = 1


Condition = tuple[tuple[Field, ...], ...]
"""What must hold for a feature to be usable: one of these, whole. Empty where nothing tells."""


def attributes(target: Target) -> str:
    """Return the attributes of a function that runs on every CPU of the target's architecture.

    An empty ``target-features`` takes the place of the TargetMachine's string: what is left is what the CPU has.
    """
    cpu = architecture(target.arch).cpu
    return f'nounwind "target-cpu"="{cpu}" "target-features"="" "tune-cpu"="generic"'


class Reader:
    """What one architecture's code reads on one system."""

    kind = "i64"
    """The type of a word."""
    words: tuple[str, ...] = ()
    """The words that are handed to a function that needs them; it reads all others itself."""
    resolver_parameters = ""
    """What an ``ifunc`` resolver is called with."""

    def __init__(self, target: Target) -> None:
        self.attributes = attributes(target)
        self.arch, self.system, _ = triples.parts(target.triple)

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return when a feature is usable, by the rules of the Python detection.

        ``permitted``: where the process must ask for it, only when it has.
        """
        raise NotImplementedError

    def word(self, body: Body, name: str) -> str:
        """Read a word."""
        return f"%{name}"

    def called(self, body: Body) -> str:
        """Return the arguments for :attr:`words`, in a constructor."""
        return ""

    def resolved(self, body: Body) -> str:
        """Return the arguments for :attr:`words`, in a function that has the parameters of a resolver."""
        return self.called(body)

    def instructions(self) -> str:
        """Define, or declare, what asks the processor and the kernel."""
        raise NotImplementedError

    def helpers(self) -> str:
        """Define what reading words needs besides."""
        return ""


def reader(target: Target) -> Reader:
    """Return what reads the features of a target's machines. Raises TargetError where emitted code cannot."""
    arch, system, _ = triples.parts(target.triple)
    found = X86 if family(target.arch) == "x86" else _ARM.get(system) if arch == "aarch64" else None
    if found is None:
        raise TargetError(f"{target.triple}: emitted code cannot tell there what the machine can run")
    return found(target)


# --- x86


class X86(Reader):
    """CPUID leaves, by the rules of :class:`cpufeat.probe.cpuid.Cpuid`, and XCR0.

    A leaf's registers are one word, EAX lowest. The instructions are the machine code that the Python detection runs,
    as *prologue data* of a function (LLVM's Language Reference), which is executed before its body. For inline
    assembly llvmlite has only this machine's assembler; this way a program for x86 can be made on any.
    """

    kind = "i128"

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return the row's bits, those of XCR0 that its state needs, and those that Linux has to permit."""
        needs: list[Field] = []
        if feature.state:
            state = states()[feature.state]
            asked = ("xcr0", "permitted") if state.permission and permitted else ("xcr0",)
            needs = [Field(word, bit) for word in asked for bit in range(64) if state.mask >> bit & 1]
        alternatives = feature.bit.split("|") if feature.bit else []
        return tuple((*map(_in_leaf, alternative.split("&")), *needs) for alternative in alternatives)

    def word(self, body: Body, name: str) -> str:
        """Read ``7.1`` (a leaf and a subleaf), ``xcr0`` or ``permitted``."""
        if name == "permitted":
            return _wide(body, "call i64 @__cpufeat_permitted()")
        if name != "xcr0":
            leaf, subleaf = name.split(".")
            return _leaf(body, int(leaf, 16), int(subleaf, 16))
        osxsave = _in_leaf(OSXSAVE)
        readable = body.has_all("i128", self.word(body, osxsave.word), 1 << osxsave.low)
        return _wide(body, f"call i64 @__cpufeat_xcr0(i1 {readable})")

    def instructions(self) -> str:
        """Define ``@__cpufeat_cpuid``, ``@__cpufeat_xgetbv`` and ``@__cpufeat_permitted``."""
        cpuid, xgetbv, *syscall = self._machine_code()
        arguments = "i32 %leaf, i32 %subleaf"
        defined = [
            self._instruction("cpuid", cpuid, "i128", arguments, arguments),
            self._instruction("xgetbv", xgetbv, "i64", "", "i32 0, i32 0"),
        ]
        permission = f"i32 {native.ARCH_PRCTL}, i32 {native.ARCH_GET_XCOMP_PERM}"
        if syscall and self.system == "linux":
            return "\n".join([*defined, self._instruction("permitted", syscall[0], "i64", "", permission)])
        return "\n".join([*defined, f"define internal i64 @__cpufeat_permitted() {self.attributes} {{ ret i64 0 }}"])

    def _machine_code(self) -> tuple[bytes, ...]:
        if self.system != "windows":
            return native.CODE[self.arch]
        from cpufeat.systems import windows

        return windows.CODE[self.arch]

    def _instruction(self, name: str, code: bytes, result: str, parameters: str, arguments: str) -> str:
        """Define a function that returns what a piece of machine code writes down.

        That piece may be replaced at link time by another of its name, so that LLVM takes nothing of it for granted.
        """
        symbol, any_one = f"__cpufeat_run_{name}", "" if self.system == "darwin" else "comdat "
        same = f"${symbol} = comdat any" if any_one else ""
        return f"""\
{same}
define linkonce_odr hidden void @{symbol}(i32 %first, i32 %second, i8* %written) noinline {self.attributes} \
{any_one}prologue {constant(code)} {{
  ret void
}}
define internal {result} @__cpufeat_{name}({parameters}) {self.attributes} {{
  %written = alloca {result}, align 16
  store {result} 0, {result}* %written, align 16
  %bytes = bitcast {result}* %written to i8*
  call void @{symbol}({arguments}, i8* %bytes)
  %result = load {result}, {result}* %written, align 16
  ret {result} %result
}}"""

    def helpers(self) -> str:
        """Define ``@__cpufeat_leaf`` and ``@__cpufeat_xcr0``, which ask only where there is an answer."""
        return f"""
define internal i128 @__cpufeat_leaf(i32 %leaf, i32 %subleaf, i1 %exists) {self.attributes} {{
  br i1 %exists, label %read, label %none
read:
  %registers = call i128 @__cpufeat_cpuid(i32 %leaf, i32 %subleaf)
  ret i128 %registers
none:
  ret i128 0
}}
define internal i64 @__cpufeat_xcr0(i1 %readable) {self.attributes} {{
  br i1 %readable, label %read, label %none
read:
  %enabled = call i64 @__cpufeat_xgetbv()
  ret i64 %enabled
none:
  ret i64 0
}}
"""


_FIELD = re.compile(r"([0-9A-F]+\.\d+):(E[A-D]X)\[(\d+)(?:-(\d+))?\](?:>=(\d+))?")


def _in_leaf(text: str) -> Field:
    """Read ``24.0:EBX[0-7]>=1``."""
    found = _FIELD.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is no field of a CPUID leaf")
    leaf, register, low, high, least = found.groups()
    return Field(leaf, 32 * REGISTERS[register] + int(low), int(high or low) - int(low) + 1, int(least or 1))


def _leaf(body: Body, leaf: int, subleaf: int) -> str:
    exists = "true" if leaf in FIRST_LEAVES else _exists(body, leaf, subleaf)
    return body.let(f"call i128 @__cpufeat_leaf(i32 {leaf}, i32 {subleaf}, i1 {exists})")


def _exists(body: Body, leaf: int, subleaf: int) -> str:
    bounded = [(leaf, leaf & 0xFFFF0000)] + [(subleaf, leaf)] * (subleaf > 0 and leaf in SUBLEAVES_IN_EAX)
    return body.all(
        body.let(f"icmp ule i32 {number}, {body.let(f'trunc i128 {_leaf(body, bound, 0)} to i32')}")
        for number, bound in bounded
    )


def _wide(body: Body, instruction: str) -> str:
    return body.let(f"zext i64 {body.let(instruction)} to i128")


# --- 64-bit Arm


class Capabilities(Reader):
    """Linux: the auxiliary vector, by the rules of :mod:`cpufeat.arch.arm`."""

    words: tuple[str, ...] = ("hwcap", "hwcap2", "hwcap3")
    resolver_parameters = "i64 %hwcap, i64* %argument"
    numbers: tuple[int, ...] = (16, 26, 29)
    """AT_HWCAP, AT_HWCAP2, AT_HWCAP3 (<linux/auxvec.h>)."""

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return the row's bits; for what some kernels report wrongly, also the bit of those that do not.

        Which core it is that a row of ``errata.tsv`` is about cannot be told here. Linux 4.11 and later report what all
        cores have, and have HWCAP_CPUID.
        """
        sure = (_in_word(_HWCAP_CPUID),) if feature.name in _doubtful() else ()
        alternatives = feature.bit.split("|") if feature.bit else []
        return tuple((*map(_in_word, alternative.split("&")), *sure) for alternative in alternatives)

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
  %given = icmp ne i64 %flag, 0
  br i1 %given, label %measure, label %none
measure:
  %size = load i64, i64* %argument
  %start = shl i64 %index, 3
  %held = icmp ugt i64 %size, %start
  br i1 %held, label %read, label %none
read:
  %place = getelementptr i64, i64* %argument, i64 %index
  %word = load i64, i64* %place
  ret i64 %word
none:
  ret i64 0
}}
"""


_IFUNC_ARG_HWCAP = 1 << 62
"""Set in a resolver's first argument where there is a second (<sys/ifunc.h> of glibc and Bionic)."""
_HWCAP_CPUID = "hwcap[11]"


def _in_word(text: str) -> Field:
    word, _, bit = text.rstrip("]").partition("[")
    return Field(word, int(bit))


def _doubtful() -> frozenset[str]:
    listed = frozenset(" ".join(names for *_, names, _, _ in tables.rows("arm/errata.tsv")).split())
    return listed - level_features("aarch64", baseline("aarch64")).names


class BsdCapabilities(Capabilities):
    """FreeBSD and OpenBSD: ``elf_aux_info``, whose words are Linux's."""

    words = ("hwcap", "hwcap2")
    resolver_parameters = ""
    numbers = (25, 26)
    """AT_HWCAP, AT_HWCAP2 (FreeBSD ``sys/elf_common.h``, OpenBSD ``sys/auxv.h``)."""

    def called(self, body: Body) -> str:
        """Call ``elf_aux_info``."""
        return ", ".join(f"i64 {body.let(f'call i64 @__cpufeat_auxiliary(i32 {number})')}" for number in self.numbers)

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


_ARM: dict[str, type[Reader]] = {"linux": Capabilities, "freebsd": BsdCapabilities, "openbsd": BsdCapabilities}
