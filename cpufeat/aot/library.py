"""Code linked into this process."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

from cpufeat.aot import triples
from cpufeat.errors import ArtifactError, MissingFeaturesError
from cpufeat.host import Host, detect
from cpufeat.resolution import triple

if TYPE_CHECKING:
    from cpufeat.aot.artifact import Artifact
    from cpufeat.aot.job import Llvmlite

_NAME = "artifact"


class Library:
    """The functions and data of an artifact, at their addresses for as long as this object lives."""

    def __init__(self, jit: Llvmlite, tracker: Llvmlite) -> None:
        self._jit = jit
        self._trackers = {"": tracker}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> int:
        """Return the address of a symbol, for example for ``ctypes.CFUNCTYPE(...)(library[name])``. Raises KeyError."""
        with self._lock:
            if name not in self._trackers:
                try:
                    self._trackers[name] = self._jit.lookup(_NAME, name)
                except RuntimeError as error:
                    raise KeyError(f"{name}: {error}") from None
            return int(self._trackers[name][name])


def link(artifact: Artifact, host: Host | None) -> Library:
    """Link an artifact into this process, after refusing what the host cannot run. See :meth:`Artifact.load`."""
    host = host or detect()
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
    _initialize()
    from llvmlite import binding

    jit = binding.create_lljit_compiler()
    try:
        tracker = binding.JITLibraryBuilder().add_object_img(code).add_current_process().link(jit, _NAME)
    except RuntimeError as error:
        raise ArtifactError(f"the code cannot be linked into this process: {error}") from None
    return Library(jit, tracker)


@functools.cache
def _initialize() -> None:
    from cpufeat.aot import codegen

    codegen.initialize()
