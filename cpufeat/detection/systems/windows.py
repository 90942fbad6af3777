"""Read this machine under Windows: CPUID by Microsoft's calling convention, ``IsProcessorFeaturePresent``, registry.

Sources: Microsoft's "x64 calling convention", "IsProcessorFeaturePresent", "IsWow64Process2", "SetThreadAffinityMask".
"""

from __future__ import annotations

import ctypes
import sys

from cpufeat.detection import instructions
from cpufeat.detection.systems.base import NativeMachine
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from cpufeat.detection.instructions import Registers

# Functions of (uint32_t, uint32_t, uint32_t results[4]) in RCX, RDX and R8. R9 is the callee's to use, RBX is not.
_CPUID = bytes.fromhex(  # (leaf, subleaf, registers)
    "f30f1efa"  # endbr64
    "89c8"  # mov eax, ecx
    "89d1"  # mov ecx, edx
    "4989d9"  # mov r9, rbx
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8 + 4], ebx
    "41894808"  # mov [r8 + 8], ecx
    "4189500c"  # mov [r8 + 12], edx
    "4c89cb"  # mov rbx, r9
    "c3"  # ret
)
_XGETBV = bytes.fromhex(  # (index, unused, halves)
    "f30f1efa"  # endbr64
    "0f01d0"  # xgetbv
    "418900"  # mov [r8], eax
    "41895004"  # mov [r8 + 4], edx
    "c3"  # ret
)
CODE = {"x86_64": (_CPUID, _XGETBV), "i686": instructions.CODE["i686"]}
"""Machine code, by the architecture of the process."""
_MEM_COMMIT_RESERVE, _PAGE_READWRITE, _PAGE_EXECUTE_READ = 0x3000, 0x04, 0x20
_PAGE = 4096
_MACHINE_ARM64 = 0xAA64


class Windows(NativeMachine):
    """A machine with Windows."""

    def __init__(self, kernel32: Any = None) -> None:
        """Ask ``kernel32``, by default that of this process."""
        super().__init__()
        self._kernel32 = kernel32 or _library("kernel32")
        self.arch: str = _arch(sys.version)
        self.libc = "msvc" if "MSC v." in sys.version else "gnu"
        self.emulator = "Windows on Arm" if self.arch in CODE and self._native() == _MACHINE_ARM64 else ""

    def _native(self) -> int | None:
        """Return the image file machine of the system itself, None before Windows 10."""
        function = getattr(self._kernel32, "IsWow64Process2", None)
        process, system = ctypes.c_ushort(), ctypes.c_ushort()
        if function is None:
            return None
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        succeeded = function(ctypes.c_void_p(_THIS_PROCESS), ctypes.byref(process), ctypes.byref(system))
        return system.value if succeeded else None

    def _load(self) -> instructions.Instructions | None:
        pieces = CODE.get(self.arch)
        address = _executable(self._kernel32, instructions.joined(pieces)) if pieces else None
        if pieces is None or address is None:
            return None
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)
        entries = [prototype(address + instructions.ALIGNMENT * entry) for entry in range(len(pieces))]

        def run(entry: int, first: int, second: int) -> bytes:
            results = (ctypes.c_uint32 * 4)()
            entries[entry](first, second, ctypes.addressof(results))
            return bytes(results)

        return instructions.Instructions(run)

    def cpuid(self, leaf: int, subleaf: int = 0, cpu: int | None = None) -> Registers | None:
        """Execute CPUID; with ``cpu``, on that processor of this thread's group."""
        if cpu is None:
            return super().cpuid(leaf, subleaf)
        move = self._kernel32.SetThreadAffinityMask
        move.argtypes, move.restype = (ctypes.c_void_p, ctypes.c_size_t), ctypes.c_size_t
        before = move(_THIS_THREAD, 1 << cpu)
        if not before:
            return None
        try:
            return super().cpuid(leaf, subleaf)
        finally:
            move(_THIS_THREAD, before)

    def processor_feature(self, number: int) -> bool | None:
        """Call ``IsProcessorFeaturePresent``."""
        return bool(self._kernel32.IsProcessorFeaturePresent(number))

    def registry(self, key: str, name: str) -> int | str | None:
        """Read the registry."""
        if sys.platform != "win32":
            return None
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
                value: object = winreg.QueryValueEx(opened, name)[0]
        except OSError:
            return None
        return value if isinstance(value, (int, str)) else None


_THIS_PROCESS, _THIS_THREAD = -1, -2
"""The handles that GetCurrentProcess and GetCurrentThread return."""


def _library(name: str) -> Any:
    return getattr(ctypes, "WinDLL")(name)  # noqa: B009 -- other systems' ctypes has no WinDLL


def _arch(version: str) -> str:
    """Return the interpreter's architecture by ``sys.version``, which ends with ``[MSC v.1929 64 bit (AMD64)]``."""
    if "(arm64)" in version.lower():
        return "aarch64"
    return "x86_64" if sys.maxsize > 2**32 else "i686"


def _executable(kernel32: Any, code: bytes) -> int | None:
    """Return the address of a page that holds ``code`` and may be executed, None where that is refused."""
    kernel32.VirtualAlloc.restype = ctypes.c_void_p
    kernel32.VirtualAlloc.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint32)
    kernel32.VirtualProtect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_void_p)
    address: int | None = kernel32.VirtualAlloc(None, _PAGE, _MEM_COMMIT_RESERVE, _PAGE_READWRITE)
    if not address:
        return None
    ctypes.memmove(address, code, len(code))
    before = ctypes.c_uint32()
    protected = kernel32.VirtualProtect(address, _PAGE, _PAGE_EXECUTE_READ, ctypes.byref(before))
    return address if protected else None
