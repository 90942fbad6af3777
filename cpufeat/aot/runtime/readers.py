"""Which code reads the features of a target's machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.llvm import triples
from cpufeat.aot.runtime.detection_aarch64 import READERS
from cpufeat.aot.runtime.detection_x86 import CpuidReader
from cpufeat.errors import TargetError
from cpufeat.features import family

if TYPE_CHECKING:
    from cpufeat.aot.runtime.detection import Reader
    from cpufeat.target import Target


def reader(target: Target) -> Reader:
    """Return what reads the features of a target's machines. Raises TargetError where emitted code cannot."""
    arch, system, _ = triples.parts(target.triple)
    if family(target.arch) == "x86":
        return CpuidReader(target)
    if arch == "aarch64" and system in READERS:
        return READERS[system](target)
    raise TargetError(f"{target.triple}: emitted code cannot tell what such a machine can run")
