"""Memoize compilation in the on-disk cache."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.aot.artifact import Artifact
from cpufeat.aot.cache import fingerprint, store
from cpufeat.errors import ArtifactError
from cpufeat.features import family
from cpufeat.support.extras import origin
from cpufeat.support.value import Value
from cpufeat.tables import PACKAGE

if TYPE_CHECKING:
    from cpufeat.aot.cache.store import Cache
    from cpufeat.aot.unit import Unit
    from cpufeat.decisions import Decision
    from cpufeat.target import Target


class Compiled(NamedTuple):
    """An artifact, and what the caller is told whenever it is asked for."""

    artifact: Artifact
    decisions: tuple[Decision, ...] = ()
    """The decisions that compilation made: the last ones of the artifact."""
    stderr: str = ""
    """LLVM's output on stderr."""
    is_reproducible: bool = True
    """Whether another attempt would give the same: not after LLVM took too long or too much memory, or read files."""


class Entry(Value):
    """The place of one compilation in the cache. Without a cache nothing is found in it, and nothing kept."""

    cache: Cache | None
    key: str
    targets: tuple[Target, ...]

    def read(self) -> Compiled | None:
        """Return the result in the cache, None if there is none. An unusable entry is removed."""
        content = self.cache.get(self.key) if self.cache else None
        if self.cache is None or content is None:
            return None
        try:
            return _decoded(content, self.targets)
        except ArtifactError:
            self.cache.remove(self.key)
            return None

    def write(self, compiled: Compiled) -> None:
        """Keep the result of a compilation, if it is reproducible."""
        if self.cache and compiled.is_reproducible:
            self.cache.put(self.key, _encoded(compiled))


def entry(unit: Unit, decisions: tuple[Decision, ...]) -> Entry:
    """Return the place of a unit's compilation in the cache.

    Its key is a digest of everything that the artifact depends on: the module and its name, all targets, all options
    that affect the object, the decisions that led to the targets, and the compiler itself.
    """
    cache = store.from_environment()
    compiler = _fingerprint(cache, unit.targets[0].arch) if cache else ""
    if not compiler:
        return Entry(None, "", unit.targets)
    ingredients = {
        "compiler": compiler,
        "name": unit.source.stem,
        "is_bitcode": unit.source.is_bitcode,
        "targets": [target.to_json() for target in unit.targets],
        "options": unit.options.affecting_the_object(),
        "decisions": [vars(decision) for decision in decisions],
    }
    return Entry(cache, store.key(json.dumps(ingredients, sort_keys=True).encode(), unit.source.content), unit.targets)


def _fingerprint(cache: Cache, arch: str) -> str:
    try:
        return fingerprint.fingerprint(cache, origin("llvmlite", "aot"), f"{PACKAGE}/__init__.py", family(arch))
    except OSError:
        return ""


def _encoded(compiled: Compiled) -> bytes:
    head = json.dumps([len(compiled.decisions), compiled.stderr])
    return head.encode() + b"\n" + compiled.artifact.object


def _decoded(content: bytes, targets: tuple[Target, ...]) -> Compiled:
    """Read what :func:`_encoded` wrote. Raises ArtifactError for anything else, and for an entry for other targets."""
    head, _, code = content.partition(b"\n")
    try:
        count, stderr = json.loads(head)
        artifact = Artifact.open(code)
        compiled = Compiled(artifact, artifact.decisions[len(artifact.decisions) - int(count) :], str(stderr))
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"a damaged entry of the cache: {error}") from None
    if tuple(variant.target for variant in artifact.variants) != targets:
        raise ArtifactError("an entry of the cache for other targets")
    return compiled
