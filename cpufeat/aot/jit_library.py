"""Load an object into this process with LLVM's JIT linker, and look up its symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cpufeat.aot.llvm.llvmlite_setup import initialize
from cpufeat.aot.objects import jit_checks
from cpufeat.aot.objects.elf import is_exported, is_shared
from cpufeat.aot.objects.jit_object import loadable
from cpufeat.errors import ArtifactError
from cpufeat.support.extras import extra

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

    from cpufeat.aot.llvm.job import Llvmlite
    from cpufeat.aot.objects.elf import Elf

_GLOBAL_OFFSET_TABLE = "_GLOBAL_OFFSET_GLOBAL_OFFSET_TABLE_"
"""Every linker defines it."""


class Library(Mapping[str, int]):
    """The addresses of the functions and data that an artifact exports: name -> address, an int.

    They are valid while this object lives. ``ctypes.CFUNCTYPE(...)(library[name])`` calls a function. Raises KeyError
    for another name.
    """

    def __init__(self, jit: Llvmlite, tracker: Llvmlite, names: list[str]) -> None:
        self._keep = (tracker, jit)
        self._addresses: dict[str, int] = {name: tracker[name] for name in names}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Library holds addresses of this process: copy or pickle its Artifact, and load that")

    def __getitem__(self, name: str) -> int:
        return self._addresses[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)


def link(code: bytes, labels: Sequence[str], picked: int, *, checked: bool) -> Library:
    """Link an object's code into this process, as if the variant at index ``picked`` had been selected.

    ``labels`` are the suffixes of the variants' functions. An object that is not ``checked``, because this process made
    it, is checked here for what LLVM might not survive. Raises ArtifactError for what cannot be linked here, and for
    symbols that this process does not have.
    """
    elf = loadable(code, labels, picked)
    if not checked:
        jit_checks.check(elf)
    return _link(elf)


def _link(elf: Elf) -> Library:
    """Link with JITLink, which reports errors where LLVM's older linker aborts."""
    with extra("aot"):
        from llvmlite import binding

    initialize()
    names = [symbol.name for symbol in elf.all_symbols() if is_exported(symbol)]
    builder = binding.JITLibraryBuilder().add_object_img(elf.content).add_current_process()
    for name in names:
        builder.export_symbol(name)
    jit = binding.create_lljit_compiler(use_jit_link=True, suppress_errors=True)
    try:
        return Library(jit, builder.link(jit, "artifact"), names)
    except RuntimeError as error:
        needed = {symbol.name for symbol in elf.all_symbols() if is_shared(symbol) and not symbol.shndx}
        undefined = sorted(name for name in needed - {_GLOBAL_OFFSET_TABLE} if binding.address_of_symbol(name) is None)
        why = f"it does not define {', '.join(undefined)}" if undefined else str(error)
        raise ArtifactError(f"the code cannot be linked into this process: {why}") from None
