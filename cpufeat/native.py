"""The CPUID and XGETBV instructions, and one system call, run in this process.

The machine code lies in one page of its own that is mapped writable, filled, and then made executable: never both at
once. Where that is refused (SELinux's ``execmem``, seccomp, another architecture) :func:`load` returns None and callers
use another source.

Every start of a compiler passes through here, so this uses ``_ctypes``, the C module beneath :mod:`ctypes`, whose own
classes take four times as long to import. What is used of it is the same in CPython 3.10 to 3.14.
"""

from __future__ import annotations

import os
import sys

from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Registers = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX: 32 bits each."""

# Functions of (unsigned long, unsigned long, uint32_t results[4]), System V calling convention of x86-64.
_CPUID = bytes.fromhex(  # (leaf, subleaf, registers)
    "f30f1efa"  # endbr64
    "53"  # push rbx
    "89f8"  # mov eax, edi
    "89f1"  # mov ecx, esi
    "4989d0"  # mov r8, rdx
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8 + 4], ebx
    "41894808"  # mov [r8 + 8], ecx
    "4189500c"  # mov [r8 + 12], edx
    "5b"  # pop rbx
    "c3"  # ret
)
_XGETBV = bytes.fromhex(  # (index, unused, halves)
    "f30f1efa"  # endbr64
    "89f9"  # mov ecx, edi
    "4989d0"  # mov r8, rdx
    "0f01d0"  # xgetbv
    "418900"  # mov [r8], eax
    "41895004"  # mov [r8 + 4], edx
    "c3"  # ret
)
_SYSCALL = bytes.fromhex(  # (number, first argument, second argument)
    "f30f1efa"  # endbr64
    "89f8"  # mov eax, edi
    "4889f7"  # mov rdi, rsi
    "4889d6"  # mov rsi, rdx
    "0f05"  # syscall
    "c3"  # ret
)
_CODE = (_CPUID, _XGETBV, _SYSCALL)
_ALIGNMENT = 64
_ARCH_PRCTL, _ARCH_GET_XCOMP_PERM = 158, 0x1022

_pages: list[object] = []  # unmapping the page under the functions would crash the process: it lives as long as that


class Instructions:
    """The machine code, callable: ``run(entry, first, second)`` returns 16 bytes as two numbers."""

    def __init__(self, run: Callable[[int, int, int], tuple[int, int]]) -> None:
        self._run = run

    def cpuid(self, leaf: int, subleaf: int) -> Registers:
        """Execute CPUID with EAX and ECX so set."""
        low, high = self._run(0, leaf, subleaf)
        return low & 0xFFFFFFFF, low >> 32, high & 0xFFFFFFFF, high >> 32

    def xgetbv(self, index: int) -> int:
        """Execute XGETBV. Only where CPUID 1:ECX[27] (OSXSAVE) is set: elsewhere the instruction faults."""
        return self._run(1, index, 0)[0]

    def permitted_states(self) -> int:
        """Call Linux's ``arch_prctl(ARCH_GET_XCOMP_PERM)`` (Documentation/arch/x86/xstate.rst); 0 where it fails."""
        return self._run(2, _ARCH_PRCTL, _ARCH_GET_XCOMP_PERM)[0]


def available() -> bool:
    """Whether the machine code above fits this process: x86-64 with the System V calling convention."""
    return os.name == "posix" and sys.maxsize > 2**32 and os.uname().machine in ("x86_64", "amd64")


def load() -> Instructions | None:
    """Return the instructions, or None where they cannot be had."""
    if not available():
        return None
    try:
        import mmap
        from _ctypes import FUNCFLAG_CDECL, Array, CFuncPtr, _SimpleCData, addressof, dlopen, dlsym

        class Word(_SimpleCData):  # type: ignore[type-arg]
            _type_ = "L"

        class Results(Array):  # type: ignore[type-arg]
            _type_, _length_ = Word, 2

        class Function(CFuncPtr):
            _flags_, _argtypes_ = FUNCFLAG_CDECL, (Word, Word, Word)

        page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
        page.write(b"".join(code.ljust(_ALIGNMENT, b"\xcc") for code in _CODE))
        address = addressof(Word.from_buffer(page))
        mprotect = Function(dlsym(dlopen(None, 0), "mprotect"))  # type: ignore[arg-type]
        if mprotect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
            return None
    except (ImportError, AttributeError, OSError):
        return None
    _pages.append(page)
    entries = [Function(address + _ALIGNMENT * entry) for entry in range(len(_CODE))]

    def run(entry: int, first: int, second: int) -> tuple[int, int]:
        results = Results()  # one for each call: threads may run it at once
        entries[entry](first, second, addressof(results))
        return results[0], results[1]

    return Instructions(run)
