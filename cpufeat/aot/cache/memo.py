"""What was compiled before is not compiled again: artifacts in the cache, by all that they are made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.aot.artifact import Artifact
from cpufeat.aot.cache import fingerprint, store
from cpufeat.aot.llvm import llvmlite_setup
from cpufeat.errors import ArtifactError
from cpufeat.features import family

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cpufeat.aot.cache.store import Cache
    from cpufeat.decisions import Decision
    from cpufeat.target import Target


class Made(NamedTuple):
    """An artifact, and what is to be said of it each time that it is asked for."""

    artifact: Artifact
    decisions: tuple[Decision, ...] = ()
    """Those of the artifact's decisions that compiling made; they are its last."""
    said: str = ""
    """What LLVM wrote to stderr."""
    is_lasting: bool = True
    """Whether it would come out the same another time: not where something took too long, or too much memory."""


def reused(module: bytes, targets: Sequence[Target], asked: Mapping[str, object], make: Callable[[], Made]) -> Made:
    """Return what was made before of the same module for the same targets, or else what ``make`` does.

    ``asked`` is everything else that the artifact depends on, as JSON has it. Raises what ``make`` does.
    """
    cache = store.from_environment()
    tools = _tools(cache, targets[0].arch) if cache else ""
    if not cache or not tools:
        return make()
    wanted = {"tools": tools, "targets": [target.to_json() for target in targets], **asked}
    key = store.key(json.dumps(wanted, sort_keys=True).encode(), module)
    kept = cache.get(key)
    if kept is not None:
        try:
            return _read(kept, targets)
        except ArtifactError:
            cache.remove(key)
    made = make()
    if made.is_lasting:
        cache.put(key, _written(made))
    return made


def _tools(cache: Cache, arch: str) -> str:
    try:
        llvmlite, cpufeat = llvmlite_setup.origin("llvmlite"), llvmlite_setup.origin("cpufeat")
        return fingerprint.identity(cache, llvmlite, cpufeat, family(arch))
    except OSError:
        return ""


def _written(made: Made) -> bytes:
    return json.dumps([len(made.decisions), made.said]).encode() + b"\n" + made.artifact.object


def _read(kept: bytes, targets: Sequence[Target]) -> Made:
    """Read what :func:`_written` wrote. Raises ArtifactError for what is not that, or is for other targets."""
    head, _, code = kept.partition(b"\n")
    try:
        decisions, said = json.loads(head)
        artifact = Artifact.open(code)
        made = Made(artifact, artifact.decisions[len(artifact.decisions) - int(decisions) :], str(said))
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"a damaged entry of the cache: {error}") from None
    if [variant.target for variant in artifact.variants] != list(targets):
        raise ArtifactError("an entry of the cache for other targets")
    return made
