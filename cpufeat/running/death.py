"""Tell at which instruction of which function a program died, and which features that instruction needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.auditing.auditor import decoded
from cpufeat.auditing.formats.image import Function, Image, Section
from cpufeat.auditing.formats.loader import image_of
from cpufeat.errors import AuditError
from cpufeat.support import files
from cpufeat.support.extras import extra
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from cpufeat.running.process_memory import Code

_X86 = ("x86_64", "i686")


class Death(Value):
    """The instruction at which a program received the signal that ended it."""

    file: str
    """The path of the program or library that the instruction is in; empty in memory of no file."""
    function: str
    """The function that it is in; its address in a file without a name for it, empty if it is in no file."""
    address: int
    """Its address in the file as tools print it; the one in memory if it is in no file."""
    instruction: str
    """As assembly, x86 in Intel's syntax; empty if it is not known."""
    needs: tuple[str, ...]
    """The features above the baseline that it needs."""

    def __str__(self) -> str:
        needs = f", which needs {', '.join(self.needs)}," if self.needs else ""
        within = f" in {self.function}" if self.function else ""
        of_file = f" of {self.file}" if self.file else ""
        return f"{self.instruction or 'the instruction'}{needs} at {self.address:#x}{within}{of_file}"


def death_at(code: Code, arch: str) -> Death:
    """Return what is known of the place in the code of a process at which it received a signal."""
    image = _image(code.path) if code.path else None
    address = _address(image, code.offset) if image else None
    if image is None or address is None:
        image, address = _instruction_image(code.content, arch, code.address), code.address
        return Death(code.path, "", address, *_decoded(image, address, code.content))
    function = image.function_at(address)
    name = (function.name or image.name_of(function.start)) if function else image.name_of(address)
    start = function.start if function else address
    return Death(code.path, name or f"{start:#x}", address, *_decoded(image, address, code.content))


def _image(path: str) -> Image | None:
    try:
        return image_of(files.read(path), path)
    except (AuditError, OSError):
        return None


def _address(image: Image, offset: int) -> int | None:
    """Return the address of what is at an offset in the file."""
    inside = (part for part in image.sections if part.executable and 0 <= offset - part.offset < len(part.content))
    return next((part.address + offset - part.offset for part in inside), None)


def _decoded(image: Image, address: int, content: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the instruction at an address, whose bytes in memory are given, and the features that it needs."""
    code = content or image.bytes_at(address, 16)
    size = _size(code, image.bits) if image.arch in _X86 else 4
    alone = _instruction_image(code[:size], image.arch, address)
    try:
        scan, text = decoded(alone)
    except AuditError:
        return "", ()
    needs = [name for function in scan.functions for name, places in function.uses.items() if address in places]
    return text(alone, address), tuple(dict.fromkeys(needs))


def _size(code: bytes, bits: int) -> int:
    with extra("audit"):
        from iced_x86 import Decoder

    return Decoder(bits, code).decode().len or len(code)


def _instruction_image(code: bytes, arch: str, address: int) -> Image:
    """Return an image of a single instruction."""
    section = Section("code", address, memoryview(code), len(code), True, False, 1, 0)
    return Image(
        name="",
        format="ELF",
        arch=arch,
        bits=32 if arch == "i686" else 64,
        kind="executable",
        sections=(section,),
        symbols=(),
        functions=(Function(address, address + len(code), "code"),),
        data=(),
        pointers={},
        externals={},
        entry=address,
    )
