"""Code linked into this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cpufeat.aot.llvm import triples
from cpufeat.aot.objects.jit_object import loadable
from cpufeat.detection.host import Host, detect
from cpufeat.detection.systems import ThisMachine
from cpufeat.errors import ArtifactError, MissingFeaturesError
from cpufeat.resolution import disable, triple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.aot.artifact import Artifact
    from cpufeat.aot.llvm.job import Llvmlite
    from cpufeat.aot.objects.elf import Elf

_TABLE = "_GLOBAL_OFFSET_TABLE_"
"""Every linker makes it."""


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
    here = triple(host)
    differs = triples.conflict(artifact.target.triple, here)
    if differs:
        raise ArtifactError(f"code for {artifact.target.triple} does not run on {here}: {differs}")
    return _link(loadable(artifact.object, artifact.labels, _picked(artifact, host)))


def _picked(artifact: Artifact, host: Host) -> int:
    """Return which of its variants the artifact would choose on a host. Raises MissingFeaturesError if it is none.

    The last one is chosen where no other runs, if it uses nothing that the host lacks. With a run-time override the
    host has not what ``CPUFEAT_DISABLE`` lists, unless no variant would be left.
    """
    *others, last = artifact.variants
    targets = [*(variant.target for variant in others), last.needs]
    runs = [index for index, target in enumerate(targets) if target.runs_on(host)]
    if not runs:
        missing = {name: str(host.why_missing(name)) for name in last.needs.missing_on(host)}
        raise MissingFeaturesError(f"this artifact, compiled for {last.target.cpu},", missing)
    permitted = disable(host, []) if artifact.runtime_override else host
    return next((index for index in runs if targets[index].runs_on(permitted)), runs[-1])


def _link(elf: Elf) -> Library:
    """Link with JITLink, which reports as an error what LLVM's older linker aborts at."""
    from llvmlite import binding

    from cpufeat.aot.worker import codegen

    codegen.initialize()
    names = [symbol.name for symbol in elf.symbols() if symbol.is_exported]
    builder = binding.JITLibraryBuilder().add_object_img(elf.content).add_current_process()
    for name in names:
        builder.export_symbol(name)
    jit = binding.create_lljit_compiler(use_jit_link=True, suppress_errors=True)
    try:
        return Library(jit, builder.link(jit, "artifact"), names)
    except RuntimeError as error:
        needed = {symbol.name for symbol in elf.symbols() if symbol.is_shared and not symbol.shndx}
        lacking = sorted(name for name in needed - {_TABLE} if binding.address_of_symbol(name) is None)
        why = f"there is no {', '.join(lacking)} in it" if lacking else str(error)
        raise ArtifactError(f"the code cannot be linked into this process: {why}") from None
