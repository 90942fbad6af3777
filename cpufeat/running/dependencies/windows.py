"""Find the DLLs that a PE file loads (Microsoft, "Dynamic-link library search order").

A DLL is searched for beside the program, then in the system's folder. Delayed imports count as loaded.
"""

from __future__ import annotations

from pathlib import Path

from cpufeat.auditing.formats.lief_reader import read_by_lief, text
from cpufeat.running.dependencies.closure import Found, Links, Loaded, follow
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from cpufeat.running.dependencies.dependency import Dependencies
    from cpufeat.running.dependencies.root import Root

_API_SETS = ("api-ms-win-", "ext-ms-")
"""Prefixes of names that Windows maps to DLLs of its own."""
_OF_WINDOWS = frozenset(
    """
    advapi32 authz avicap32 avrt bcrypt bcryptprimitives cabinet cfgmgr32 combase comctl32 comdlg32 credui crypt32
    cryptbase cryptnet cryptui d2d1 d3d10 d3d10_1 d3d11 d3d12 d3d9 d3dcompiler_47 dbgeng dbghelp dcomp ddraw dhcpcsvc
    dinput8 dnsapi dsound dwmapi dwrite dxgi dxva2 evr gdi32 gdi32full gdiplus hid httpapi imagehlp imm32 iphlpapi
    kernel32 kernelbase ktmw32 mf mfplat mfreadwrite mpr msacm32 mscoree msdmo msi msimg32 msvcrt msvfw32 mswsock ncrypt
    netapi32 newdev normaliz ntdll ntdsapi odbc32 ole32 oleacc oleaut32 opengl32 pdh powrprof propsys psapi rasapi32
    rpcrt4 rstrtmgr sechost secur32 setupapi shcore shell32 shlwapi sspicli tdh traffic ucrtbase urlmon user32 userenv
    usp10 uxtheme version virtdisk webservices wevtapi windowscodecs winhttp wininet winmm winscard winspool wintrust
    wlanapi wldap32 ws2_32 wsock32 wtsapi32 xinput1_4 xmllite
    """.split()  # noqa: SIM905 - as a text it can be read
)
"""DLLs that are parts of Windows. Those that programs bring along, such as vcruntime140, are not."""
_SYSTEM_FOLDER = ("Windows", "System32")


def windows_dependencies(content: bytes, file: str, root: Root) -> Dependencies:
    """Return the DLLs that are loaded with a PE file. Raises AuditError for a damaged file."""
    folders = [Path(file).absolute().parent, *([Path(root.folder, *_SYSTEM_FOLDER)] if root.folder else [])]

    def find(name: str, _requester: Loaded) -> Found:
        real = next((place for folder in folders if (place := _in_folder(folder, name))), "")
        return Found(real, not real and _is_of_windows(name), tuple(map(str, folders)))

    return follow(file, _read(content, file), _read, find)


def _read(content: bytes, name: str) -> Links:
    return read_by_lief(content, name, "PE file", _parse, _links)


def _parse(lief: Any, content: bytes) -> Any:
    config = lief.PE.ParserConfig()
    config.parse_signature = config.parse_rsrc = config.parse_reloc = config.parse_exceptions = False
    config.parse_exports = config.parse_arm64x_binary = False
    return lief.PE.parse(content, config)


def _links(binary: Any, _content: memoryview, _name: str) -> Links:
    imports = [*binary.imports, *getattr(binary, "delay_imports", ())]
    return Links(tuple(dict.fromkeys(text(imported.name) for imported in imports)))


def _in_folder(folder: Path, name: str) -> str:
    """Return the path of a file in a folder, in any case; empty if it is not there."""
    try:
        found = (place for place in folder.iterdir() if place.name.lower() == name.lower() and place.is_file())
        return str(next(found, ""))
    except OSError:
        return ""


def _is_of_windows(name: str) -> bool:
    lower = name.lower()
    return lower.startswith(_API_SETS) or lower.rpartition(".")[0] in _OF_WINDOWS or lower in _OF_WINDOWS
