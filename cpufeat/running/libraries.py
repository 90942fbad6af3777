"""Judge what a program loads, each file by itself, as far as the program uses it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cpufeat.auditing.auditor import audit_content, audit_image
from cpufeat.auditing.formats.loader import image_of
from cpufeat.errors import AuditError
from cpufeat.features import FeatureSet
from cpufeat.running.dependencies.follow import dependencies
from cpufeat.running.file_check import Check, check_file
from cpufeat.support import files
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.support.verdict import CANNOT_TELL, RUNS, worst

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from cpufeat.auditing.decoding.scan import Progress
    from cpufeat.auditing.report import Audit
    from cpufeat.detection.host import Host
    from cpufeat.running.dependencies.dependency import Dependencies, Dependency
    from cpufeat.running.dependencies.root import Root

_AUDITS = 256
"""Audits of libraries that are kept for further programs of this process."""
_audits: dict[tuple[str, str, int, int], Audit] = {}


class Place(NamedTuple):
    """Where a file is to run."""

    on: str
    """The name of the machine or CPU."""
    host: Host | None
    """None for a CPU."""
    root: Root
    progress: Progress | None = None
    """Is told how many bytes of code of a file are decoded."""


class Part(NamedTuple):
    """The part of a file that is to run: the file itself, or a member of it."""

    file: str
    audit: Audit
    content: bytes
    available: FeatureSet
    """The features that the CPU has, in the part's architecture."""


def with_libraries(own: Check, part: Part, place: Place) -> Check:
    """Return the check of a part of a file together with all that it loads; ``own`` is the one of the part alone."""
    available = part.available
    loaded = dependencies(part.audit, part.file, part.content, place.root, available)
    checks = tuple(_check(file, loaded, available, place) for file in loaded.files)
    worse = [f"{Path(check.file).name}: {check.verdict}" for check in checks if check.verdict != RUNS]
    return own.replace(
        verdict=worst([own.verdict, *(check.verdict for check in checks), *([CANNOT_TELL] if loaded.unknown else [])]),
        reasons=(*own.reasons, *loaded.unknown, *worse),
        libraries=checks,
        system_libraries=loaded.system,
        may_load=loaded.may_open,
    )


def _check(file: Dependency, loaded: Dependencies, available: FeatureSet, place: Place) -> Check:
    if not file.real:
        where = f"; searched: {', '.join(file.searched)}" if file.searched else ""
        return Check(file.name, place.on, CANNOT_TELL, (f"it was not found{where}",))
    try:
        status = Path(file.real).stat()
        whole = _audit(file, status, place.progress)
        audit = next((part for part in (whole, *whole.members) if part.arch == available.arch), whole)
        content = files.read(file.real)
        if loaded.used is not None and audit.beyond(available):
            names = loaded.used.intersection(_exported(content, audit.name))
            audit = _as_used(audit, _narrow_audit(file.real, file.path, status.st_mtime_ns, names))
    except (AuditError, OSError) as error:
        return Check(file.path, place.on, CANNOT_TELL, (str(error).removeprefix(f"{file.path}: "),))
    return check_file(audit, content, available, place.on, place.host)


def _audit(file: Dependency, status: os.stat_result, progress: Progress | None) -> Audit:
    """Return the audit of a library; its size and time of modification tell whether it is still the same."""
    key = (file.path, file.real, status.st_size, status.st_mtime_ns)
    if key not in _audits:
        if len(_audits) == _AUDITS:
            _audits.clear()
        _audits[key] = audit_content(files.read(file.real), file.path, progress)
    return _audits[key]


@lru_cache(_AUDITS)
def _narrow_audit(real: str, path: str, modified: int, used: frozenset[str]) -> Audit:
    """Return the audit of a library of which other files use only some of the symbols that it exports."""
    image = image_of(files.read(real), path)
    symbols = (
        symbol if symbol.name.partition("@")[0] in used else symbol._replace(visible=False) for symbol in image.symbols
    )
    return audit_image(image.replace(symbols=tuple(symbols)))


def _exported(content: bytes, name: str) -> Iterator[str]:
    return (symbol.name.partition("@")[0] for symbol in image_of(content, name).symbols if symbol.visible)


def _as_used(audit: Audit, narrow: Audit) -> Audit:
    """Return an audit without the uses of features that only symbols lead to which no other file uses."""
    bare_of = {function.start: function.bare for function in narrow.functions}
    functions = tuple(function.replace(bare=function.bare & bare_of[function.start]) for function in audit.functions)
    bare = FeatureSet(audit.arch, {name for function in functions for name in function.bare})
    return audit.replace(functions=functions, bare=bare)
