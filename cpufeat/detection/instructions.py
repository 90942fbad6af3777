"""Run instructions that describe the processor, in this process: CPUID and XGETBV of x86, STFLE of s390x.

The machine code lies in one page of its own, which is never writable and executable at once. On Linux it is a file in
memory, mapped to be read and executed; that works under systemd's ``MemoryDenyWriteExecute`` too. Elsewhere, and where
the kernel refuses such a file, a page is mapped writable, filled, and then made executable. Where both are refused
(SELinux's ``execmem``, seccomp, another architecture) :func:`load` returns None and callers use another source.

Every start of a compiler passes through here, so this uses ``_ctypes``, the C module beneath :mod:`ctypes`, whose own
classes take four times as long to import. What is used of it is the same in CPython 3.10 to 3.14.
"""

from __future__ import annotations

import os
import sys

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    Run = Callable[[int, int, int], bytes]
    """Calls the piece of code of that number with two arguments, and returns what it wrote where the third points."""

Registers = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX: 32 bits each."""

# Functions of (unsigned long, unsigned long, results[]). First the System V calling convention of x86-64.
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
# The calling convention of 32-bit x86 (cdecl) is the same on every system.
_CPUID_32 = bytes.fromhex(  # (leaf, subleaf, registers)
    "f30f1efb"  # endbr32
    "53"  # push ebx
    "57"  # push edi
    "8b44240c"  # mov eax, [esp + 12]
    "8b4c2410"  # mov ecx, [esp + 16]
    "0fa2"  # cpuid
    "8b7c2414"  # mov edi, [esp + 20]
    "8907"  # mov [edi], eax
    "895f04"  # mov [edi + 4], ebx
    "894f08"  # mov [edi + 8], ecx
    "89570c"  # mov [edi + 12], edx
    "5f"  # pop edi
    "5b"  # pop ebx
    "c3"  # ret
)
_XGETBV_32 = bytes.fromhex(  # (index, unused, halves)
    "f30f1efb"  # endbr32
    "8b4c2404"  # mov ecx, [esp + 4]
    "0f01d0"  # xgetbv
    "8b4c240c"  # mov ecx, [esp + 12]
    "8901"  # mov [ecx], eax
    "895104"  # mov [ecx + 4], edx
    "c3"  # ret
)
CODE = {"x86_64": (_CPUID, _XGETBV, _SYSCALL), "i686": (_CPUID_32, _XGETBV_32)}
"""Machine code for POSIX systems, by the architecture of the process."""
# The ELF ABI of s390x.
_STFLE = bytes.fromhex(  # (words - 1, unused, words)
    "b9040002"  # lgr %r0, %r2
    "b2b04000"  # stfle 0(%r4)
    "07fe"  # br %r14
)
_WORDS = 32
"""The most 64-bit words that STFLE fills (Principles of Operation, "Store Facility List Extended")."""
ALIGNMENT = 64
"""The alignment in a page of each piece of code, in bytes."""
ARCH_PRCTL, ARCH_GET_XCOMP_PERM = 158, 0x1022

_MFD_EXEC = 0x10
"""The flag by which Linux 6.3 and newer permit execution; older kernels do not know it (<linux/memfd.h>)."""
_PROT_READ_EXEC, _MAP_PRIVATE = 1 | 4, 2
"""The same on every POSIX system (<sys/mman.h>)."""

_pages: list[object] = []  # unmapping the page under the functions would crash the process: it lives as long as that


class Instructions:
    """The machine code of x86, callable."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def cpuid(self, leaf: int, subleaf: int) -> Registers:
        """Execute CPUID with the leaf in EAX and the subleaf in ECX."""
        low, high = _numbers(self._run(0, leaf, subleaf))
        return low & 0xFFFFFFFF, low >> 32, high & 0xFFFFFFFF, high >> 32

    def xgetbv(self, index: int) -> int:
        """Execute XGETBV. Only where CPUID 1:ECX[27] (OSXSAVE) is set: elsewhere the instruction faults."""
        return _numbers(self._run(1, index, 0))[0]

    def permitted_states(self) -> int:
        """Call ``arch_prctl(ARCH_GET_XCOMP_PERM)`` of 64-bit Linux (its xstate.rst); 0 where it is refused."""
        return _numbers(self._run(2, ARCH_PRCTL, ARCH_GET_XCOMP_PERM))[0]


def _numbers(written: bytes) -> tuple[int, int]:
    return int.from_bytes(written[:8], "little"), int.from_bytes(written[8:16], "little")


def load(arch: str) -> Instructions | None:
    """Return the instructions for a process that runs as ``arch`` on a POSIX system, None where they cannot be run."""
    run = _runner(CODE[arch]) if arch in CODE else None
    return run and Instructions(run)


def _runner(pieces: tuple[bytes, ...]) -> Run | None:
    """Return what runs pieces of machine code for this system's calling convention, None where that is refused."""
    if sys.platform == "win32":
        return None
    if sys.platform == "cygwin":
        return None
    try:
        from _ctypes import (  # type: ignore[attr-defined, unused-ignore]
            FUNCFLAG_CDECL,
            Array,
            CFuncPtr,
            _SimpleCData,
            addressof,
            dlopen,
            dlsym,
        )

        class Word(_SimpleCData):  # type: ignore[type-arg]
            _type_ = "L"

        class Results(Array):  # type: ignore[type-arg]
            _type_, _length_ = Word, _WORDS

        class Function(CFuncPtr):
            _flags_, _argtypes_ = FUNCFLAG_CDECL, (Word, Word, Word)

        class Mapping(CFuncPtr):
            _flags_, _argtypes_, _restype_ = FUNCFLAG_CDECL, (Word,) * 6, Word

        libc = dlopen(None, 0)  # type: ignore[arg-type, unused-ignore]
        mmap = Mapping(dlsym(libc, "mmap"))  # type: ignore[arg-type, unused-ignore]
        address = _file_in_memory(joined(pieces), mmap)  # type: ignore[arg-type, unused-ignore]
        if address is None:
            mprotect = Function(dlsym(libc, "mprotect"))  # type: ignore[arg-type, unused-ignore]
            address = _executable(joined(pieces), lambda page: addressof(Word.from_buffer(page)), mprotect)
    except (ImportError, AttributeError, OSError):
        return None
    if address is None:
        return None
    entries = [Function(address + ALIGNMENT * entry) for entry in range(len(pieces))]

    def run(entry: int, first: int, second: int) -> bytes:
        results = Results()  # one for each call: threads may run it at once
        entries[entry](first, second, addressof(results))
        return bytes(results)

    return run


def joined(pieces: tuple[bytes, ...]) -> bytes:
    """Return pieces of machine code as they lie in a page; what is between them traps."""
    return b"".join(piece.ljust(ALIGNMENT, b"\xcc") for piece in pieces)


def facilities() -> tuple[int, ...] | None:
    """Execute STFLE: return the numbers of the facilities that are installed, or None where it cannot be run.

    Only for a process that runs as s390x, where AT_HWCAP has HWCAP_STFLE: elsewhere the instruction faults.
    """
    run = _runner((_STFLE,))
    if run is None:
        return None
    bits = int.from_bytes(run(0, _WORDS - 1, 0), "big")
    return tuple(number for number in range(64 * _WORDS) if bits >> (64 * _WORDS - 1 - number) & 1)


def _file_in_memory(code: bytes, mmap: Callable[..., int]) -> int | None:
    """Return the address at which a file in memory that holds ``code`` is mapped to be executed, None if refused.

    ``mmap`` is the C library's, its result an unsigned word.
    """
    if sys.platform != "linux":
        return None
    try:
        file = _memory_file()
    except OSError:
        return None
    try:
        os.write(file, code)
        address = mmap(0, len(code), _PROT_READ_EXEC, _MAP_PRIVATE, file, 0)
    finally:
        os.close(file)
    failed = 2 * sys.maxsize + 1
    return None if address == failed else address


def _memory_file() -> int:
    """Return the descriptor of an empty file in memory that may be executed. Raises OSError where that is refused."""
    if sys.platform != "linux":
        raise OSError("files in memory are Linux's")
    try:
        return os.memfd_create("cpufeat", os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError:
        return os.memfd_create("cpufeat", os.MFD_CLOEXEC)


def _executable(code: bytes, address_of: Callable[[mmap], int], mprotect: Callable[[int, int, int], int]) -> int | None:
    """Return the address of an executable page that holds ``code``, None where that is refused. Raises OSError."""
    if sys.platform == "win32":
        return None
    import mmap

    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
    page.write(code)
    address = address_of(page)
    if mprotect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        return None
    _pages.append(page)
    return address
