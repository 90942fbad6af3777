"""Finish LLVM's object: move constructors to ``.init_array``, state the psABI level, and add cpufeat's note.

An ELF file is parsed once, and written once after all edits.
"""

from __future__ import annotations

from cpufeat.aot.objects import gnu_property, init_array, note
from cpufeat.aot.objects.elf import Elf
from cpufeat.binary_format.elf import MAGIC


def finish(content: bytes, text: str, *, isa_level: str = "") -> bytes:
    """Return an object with a note of that text.

    If it is an ELF file, constructors are listed in ``.init_array``, and x86-64 code states the level, unless that is
    empty. Raises ArtifactError for what is no object in one of the three formats, and for a damaged one.
    """
    if not content.startswith(MAGIC):
        return note.add(content, text)
    elf = Elf(content)
    if isa_level:
        elf = gnu_property.with_isa_level(elf, isa_level)
    return note.with_note(init_array.modernize(elf), text).to_bytes()
