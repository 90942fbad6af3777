"""Emit run-time feature tests for x86: CPUID and XCR0, by the rules of :class:`cpufeat.detection.cpuid.Cpuid`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.llvm.builder import Body, constant
from cpufeat.aot.runtime.feature_tests import Condition, FeatureTests, Field, sysctl
from cpufeat.detection import instructions
from cpufeat.detection.arch.x86 import NOWHERE, states
from cpufeat.detection.cpuid import AVX512_STATE, FIRST_LEAVES, OSXSAVE, REGISTERS, SUBLEAVES_IN_EAX
from cpufeat.detection.machine import AT_HWCAP2
from cpufeat.support.conditions import Term

if TYPE_CHECKING:
    from cpufeat.features import Feature

_HWCAP2 = (
    bytes.fromhex(  # (unused, unused, uint64_t *word), System V: the word stays as it is where there is no such file
        "f30f1efa"  # endbr64
        "53"  # push rbx
        "4881ec00040000"  # sub rsp, 1024
        "4989d1"  # mov r9, rdx
        "48b86c662f6175787600"  # mov rax, "lf/auxv"
        "4889442408"  # mov [rsp + 8], rax
        "48b82f70726f632f7365"  # mov rax, "/proc/se"
        "48890424"  # mov [rsp], rax
        "4889e7"  # mov rdi, rsp
        "be00000800"  # mov esi, O_RDONLY | O_CLOEXEC
        "31d2"  # xor edx, edx
        "b802000000"  # mov eax, open
        "0f05"  # syscall
        "85c0"  # test eax, eax
        "783f"  # js done
        "89c3"  # mov ebx, eax
        "89c7"  # mov edi, eax
        "4889e6"  # mov rsi, rsp
        "ba00040000"  # mov edx, 1024
        "31c0"  # xor eax, eax: read
        "0f05"  # syscall
        "4989c0"  # mov r8, rax
        "89df"  # mov edi, ebx
        "b803000000"  # mov eax, close
        "0f05"  # syscall
        "4d85c0"  # test r8, r8
        "7e1e"  # jle done
        "4901e0"  # add r8, rsp
        "4889e6"  # mov rsi, rsp
        "4c39c6"  # next: cmp rsi, r8
        "7313"  # jae done
        "48833e1a"  # cmp qword [rsi], AT_HWCAP2
        "7406"  # je found
        "4883c610"  # add rsi, 16
        "ebef"  # jmp next
        "488b4608"  # found: mov rax, [rsi + 8]
        "498901"  # mov [r9], rax
        "4881c400040000"  # done: add rsp, 1024
        "5b"  # pop rbx
        "c3"  # ret
    )
)
"""Read AT_HWCAP2 in ``/proc/self/auxv``."""


class CpuidTests(FeatureTests):
    """Words are pairs of registers of a CPUID leaf (EAX below EBX, ECX below EDX), XCR0, and what Linux permits.

    CPUID and XGETBV are the machine code that the Python detection runs, as *prologue data* of a function (LLVM's
    Language Reference), which is executed before its body. Inline assembly would not do: llvmlite has an assembler only
    for the machine that it runs on, and this code must compile for x86 on any.
    """

    _asks_vector = False
    """Whether a word of the auxiliary vector is read: only then is the C library needed."""

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return the row's bits, and those by which the system shows that it enabled the state, or permits it."""
        needs: list[Field] = []
        if feature.state:
            state = states()[feature.state]
            words = ("xcr0", "permitted") if state.permission and permitted else ("xcr0",)
            needs = [Field(word, bit) for word in words for bit in range(64) if state.mask >> bit & 1]
            if state.shown == NOWHERE:
                return ()
            if state.shown and self._has_vector:
                needs.append(Field("hwcap2", Term(state.shown).low))
            if state.windows and self.system == "windows":
                needs.append(Field(state.windows))
        return tuple((*map(_field, terms), *needs) for terms in feature.condition.alternatives)

    def word(self, body: Body, name: str) -> str:
        """Read half of a leaf (``7.1:ECX``: ECX and EDX), ``xcr0``, ``permitted``, ``hwcap2`` or a number."""
        if name == "hwcap2":
            self._asks_vector = True
            return body.let("call i64 @__cpufeat_hwcap2()")
        if name.isdecimal():
            answer = body.let(f"call i32 @IsProcessorFeaturePresent(i32 {name})")
            return body.let(f"zext i1 {body.let(f'icmp ne i32 {answer}, 0')} to i64")
        if name == "permitted":
            return body.let("call i64 @__cpufeat_permitted()")
        if name == "xcr0":
            return self._xcr0(body)
        leaf, register = name.split(":")
        return _half(body, _leaf(body, *(int(part, 16) for part in leaf.split("."))), register)

    @property
    def _has_vector(self) -> bool:
        """Whether the auxiliary vector tells of instructions for user code; those are of 64-bit code."""
        return self.system == "linux" and self.arch == "x86_64"

    def _xcr0(self, body: Body) -> str:
        enabled = body.let("call i64 @__cpufeat_xcr0()")
        if self.system != "darwin":
            return enabled
        lazily = body.let(f"call i64 @__cpufeat_sysctl(i8* {body.text('hw.optional.avx512f')})")
        state = body.let(f"mul i64 {lazily}, {AVX512_STATE}")
        return body.let(f"or i64 {enabled}, {state}")

    def primitives(self) -> str:
        """Define ``@__cpufeat_cpuid``, ``@__cpufeat_xgetbv`` and ``@__cpufeat_permitted``."""
        cpuid, xgetbv, *syscall = self._machine_code()
        arguments = "i32 %leaf, i32 %subleaf"
        defined = [
            self._instruction("cpuid", cpuid, "i128", arguments, arguments),
            self._instruction("xgetbv", xgetbv, "i64", "", "i32 0, i32 0"),
        ]
        permission = f"i32 {instructions.ARCH_PRCTL}, i32 {instructions.ARCH_GET_XCOMP_PERM}"
        if syscall and self.system == "linux":
            return "\n".join([*defined, self._instruction("permitted", syscall[0], "i64", "", permission)])
        return "\n".join([*defined, f"define internal i64 @__cpufeat_permitted() {self.attributes} {{ ret i64 0 }}"])

    def _machine_code(self) -> tuple[bytes, ...]:
        if self.system != "windows":
            return instructions.CODE[self.arch]
        from cpufeat.detection.systems import windows

        return windows.CODE[self.arch]

    def _instruction(self, name: str, code: bytes, result: str, parameters: str, arguments: str) -> str:
        """Define a function that returns what a piece of machine code stores.

        The code is in a function that may be replaced at link time, so that LLVM assumes nothing about its body.
        """
        symbol, is_grouped = f"__cpufeat_run_{name}", self.system != "darwin"  # Mach-O has no COMDAT
        return f"""
{f"${symbol} = comdat any" if is_grouped else ""}
define linkonce hidden void @{symbol}(i32 %first, i32 %second, i8* %written) {self.leaf_attributes} \
{"comdat" if is_grouped else ""} prologue {constant(code)} {{
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
        """Define ``@__cpufeat_leaf`` and ``@__cpufeat_xcr0``, which return 0 for what the CPU does not have.

        ``@__cpufeat_xcr0`` tests OSXSAVE itself, so that an audit of stripped code sees the check. Every CPU with CPUID
        has the leaf of that bit.
        """
        readable, body = _field(Term(OSXSAVE)), Body("__cpufeat_xcr0")
        number, _, register = readable.word.partition(".0:")
        registers = _call_leaf(body, int(number, 16), 0, "true")
        is_readable = body.has_all(_half(body, registers, register), 1 << readable.low)
        return f"""
define internal i128 @__cpufeat_leaf(i32 %leaf, i32 %subleaf, i1 %exists) {self.attributes} {{
  br i1 %exists, label %read, label %none
read:
  %registers = call i128 @__cpufeat_cpuid(i32 %leaf, i32 %subleaf)
  ret i128 %registers
none:
  ret i128 0
}}
define internal i64 @__cpufeat_xcr0() {self.attributes} {{
{body.instructions()}  br i1 {is_readable}, label %read, label %none
read:
  %enabled = call i64 @__cpufeat_xgetbv()
  ret i64 %enabled
none:
  ret i64 0
}}
{sysctl(self.attributes) if self.system == "darwin" else ""}{self._hwcap2() if self._asks_vector else ""}
{"declare i32 @IsProcessorFeaturePresent(i32)" if self.system == "windows" else ""}"""

    def _hwcap2(self) -> str:
        """Define ``@__cpufeat_hwcap2``: by the C library, or before that works, by the file of the vector."""
        if self.in_resolver:
            return self._instruction("hwcap2", _HWCAP2, "i64", "", "i32 0, i32 0")
        return f"""
declare i64 @getauxval(i64)
define internal i64 @__cpufeat_hwcap2() {self.attributes} {{
  %word = call i64 @getauxval(i64 {AT_HWCAP2})
  ret i64 %word
}}"""


_HALVES = {"EAX": ("EAX", 0), "EBX": ("EAX", 32), "ECX": ("ECX", 0), "EDX": ("ECX", 32)}


def _field(term: Term) -> Field:
    leaf, register = term.word.split(":")
    first, shift = _HALVES[register]
    return Field(f"{leaf}:{first}", shift + term.low, term.width, term.least)


def _leaf(body: Body, leaf: int, subleaf: int) -> str:
    return _call_leaf(body, leaf, subleaf, "true" if leaf in FIRST_LEAVES else _exists(body, leaf, subleaf))


def _call_leaf(body: Body, leaf: int, subleaf: int, exists: str) -> str:
    return body.let(f"call i128 @__cpufeat_leaf(i32 {leaf}, i32 {subleaf}, i1 {exists})")


def _half(body: Body, registers: str, register: str) -> str:
    """Return the word of a register and the one after it."""
    return body.let(f"trunc i128 {body.let(f'lshr i128 {registers}, {32 * REGISTERS[register]}')} to i64")


def _exists(body: Body, leaf: int, subleaf: int) -> str:
    bounds = [(leaf, leaf & 0xFFFF0000)]
    if subleaf and leaf in SUBLEAVES_IN_EAX:
        bounds.append((subleaf, leaf))
    return body.all(body.let(f"icmp ule i32 {number}, {_eax(body, bound)}") for number, bound in bounds)


def _eax(body: Body, leaf: int) -> str:
    return body.let(f"trunc i128 {_leaf(body, leaf, 0)} to i32")
