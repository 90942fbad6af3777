"""Code linked into this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cpufeat.aot import triples
from cpufeat.aot.elf import ET_REL, SHF_TLS, SHT_INIT_ARRAY, Elf
from cpufeat.errors import ArtifactError, MissingFeaturesError
from cpufeat.host import Host, detect
from cpufeat.machine import ThisMachine
from cpufeat.resolution import triple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.aot.artifact import Artifact
    from cpufeat.aot.job import Llvmlite


class Library(Mapping[str, int]):
    """The functions and data that an artifact exports, by name, at their addresses for as long as this object lives.

    ``ctypes.CFUNCTYPE(...)(library[name])`` calls a function.
    """

    def __init__(self, jit: Llvmlite, tracker: Llvmlite, names: list[str]) -> None:
        self._keep = (tracker, jit)
        self._addresses: dict[str, int] = {name: tracker[name] for name in names}

    def __getitem__(self, name: str) -> int:
        return self._addresses[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)


def link(artifact: Artifact, host: Host | None) -> Library:
    """Link an artifact into this process, after refusing what the host cannot run. See :meth:`Artifact.load`."""
    host = host or detect(ThisMachine())
    target = artifact.target
    here = triple(host)
    differs = triples.conflict(target.triple, here)
    if differs:
        raise ArtifactError(f"code for {target.triple} does not run on {here}: {differs}")
    missing = target.missing_on(host)
    if missing:
        raise MissingFeaturesError(
            f"this artifact, compiled for {target.cpu},", {name: str(host.why_missing(name)) for name in missing}
        )
    return _link(artifact.object)


def _link(code: bytes) -> Library:
    """Link with JITLink, which reports as an error what LLVM's older linker aborts at."""
    from llvmlite import binding

    from cpufeat.aot import codegen

    codegen.initialize()
    elf = _linkable(code)
    names = elf.symbols(defined=True)
    builder = binding.JITLibraryBuilder().add_object_img(code).add_current_process()
    for name in names:
        builder.export_symbol(name)
    jit = binding.create_lljit_compiler(use_jit_link=True, suppress_errors=True)
    try:
        return Library(jit, builder.link(jit, "artifact"), names)
    except RuntimeError as error:
        needed = set(elf.symbols(defined=False)) - {"_GLOBAL_OFFSET_TABLE_"}
        lacking = sorted(name for name in needed if binding.address_of_symbol(name) is None)
        why = f"there is no {', '.join(lacking)} in it" if lacking else str(error)
        raise ArtifactError(f"the code cannot be linked into this process: {why}") from None


def _linkable(code: bytes) -> Elf:
    elf = Elf(code)
    if elf.header.type != ET_REL:
        raise ArtifactError("only an object can be linked into this process: load a library with ctypes")
    if any(section.flags & SHF_TLS for section in elf.sections):
        raise ArtifactError("LLVM cannot link thread-local variables into this process")
    if any(section.type == SHT_INIT_ARRAY for section in elf.sections):
        raise ArtifactError("LLVM would not run the constructors: link a shared library, and load that with ctypes")
    return elf
