"""Instructions that describe the processor, run in this process: CPUID and XGETBV of x86-64, STFLE of s390x.

The machine code lies in one page of its own that is mapped writable, filled, and then made executable: never both at once.
Where that is refused (SELinux's ``execmem``, seccomp, another architecture) the functions return None and callers use
another source.
"""

from __future__ import annotations

import os
import sys

from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Registers = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX: 32 bits each."""

# void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]), System V calling convention of x86-64.
_CPUID = bytes.fromhex(
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
# void xgetbv(uint32_t index, uint32_t halves[2])
_XGETBV = bytes.fromhex(
    "f30f1efa"  # endbr64
    "89f9"  # mov ecx, edi
    "0f01d0"  # xgetbv
    "8906"  # mov [rsi], eax
    "895604"  # mov [rsi + 4], edx
    "c3"  # ret
)
_ALIGNMENT = 64
# void stfle(uint64_t list[], uint64_t words - 1), ELF ABI of s390x.
_STFLE = bytes.fromhex(
    "b9040003"  # lgr %r0, %r3
    "b2b02000"  # stfle 0(%r2)
    "07fe"  # br %r14
)
_WORDS = 32
"""As many as STFLE ever fills (Principles of Operation, "Store Facility List Extended")."""

_pages: list[object] = []  # unmapping the page under the functions would crash the process: it lives as long as that


def available() -> bool:
    """Whether the machine code above fits this process: x86-64 with the System V calling convention."""
    return os.name == "posix" and sys.maxsize > 2**32 and os.uname().machine in ("x86_64", "amd64")


def load() -> tuple[Callable[[int, int], Registers], Callable[[int], int]] | None:
    """Return ``cpuid(leaf, subleaf) -> registers`` and ``xgetbv(index) -> 64 bits``, or None where they cannot be had.

    ``xgetbv`` may be called only where CPUID 1:ECX[27] (OSXSAVE) is set: elsewhere the instruction faults.
    """
    if not available():
        return None
    address = _executable(_CPUID.ljust(_ALIGNMENT, b"\xcc") + _XGETBV)
    if address is None:
        return None
    import ctypes

    run_cpuid = ctypes.PYFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(address)
    run_xgetbv = ctypes.PYFUNCTYPE(None, ctypes.c_uint32, ctypes.c_void_p)(address + _ALIGNMENT)
    four, two = ctypes.c_uint32 * 4, ctypes.c_uint32 * 2

    def cpuid(leaf: int, subleaf: int) -> Registers:
        registers = four()
        run_cpuid(leaf, subleaf, ctypes.addressof(registers))
        return registers[0], registers[1], registers[2], registers[3]

    def xgetbv(index: int) -> int:
        halves = two()
        run_xgetbv(index, ctypes.addressof(halves))
        return halves[1] << 32 | halves[0]

    return cpuid, xgetbv


def facilities() -> tuple[int, ...] | None:
    """Execute STFLE: return the numbers of the facilities that are installed, or None where it cannot be had.

    It may be called only where AT_HWCAP has HWCAP_STFLE: elsewhere the instruction faults.
    """
    if os.name != "posix" or os.uname().machine != "s390x" or sys.maxsize < 2**32:
        return None
    address = _executable(_STFLE)
    if address is None:
        return None
    import ctypes

    words = (ctypes.c_uint64 * _WORDS)()
    ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)(address)(ctypes.addressof(words), _WORDS - 1)
    return tuple(number for number in range(64 * _WORDS) if words[number // 64] >> (63 - number % 64) & 1)


def _executable(code: bytes) -> int | None:
    """Return the address of a page that holds ``code`` and may be executed, None where that is refused."""
    import ctypes
    import mmap

    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
        page.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        mprotect = ctypes.CDLL(None).mprotect
    except (OSError, AttributeError):
        return None
    mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if mprotect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        return None
    _pages.append(page)
    return address
