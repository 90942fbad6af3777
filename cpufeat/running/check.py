"""Predict whether a file runs on a machine or CPU, without running it: compare the features needed and available."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cpufeat.auditing.auditor import audit_content, expect_progress
from cpufeat.auditing.formats.loader import content_of, format_of, loads
from cpufeat.detection.detect import MACHINE_VARIABLE, detect
from cpufeat.detection.host import Host
from cpufeat.errors import AuditError, OptionError, TargetError, UnknownNameError, expect, one_of
from cpufeat.features import FeatureSet
from cpufeat.running.dependencies.root import Root
from cpufeat.running.dependencies.script import MAGIC, interpreter_of
from cpufeat.running.file_check import Check, check_file
from cpufeat.running.libraries import Part, Place, with_libraries
from cpufeat.support import files
from cpufeat.support.verdict import CANNOT_TELL, RUNS, WILL_NOT_RUN, worst
from cpufeat.tables import architecture, has_tables, rows
from cpufeat.target import Target

if TYPE_CHECKING:
    from cpufeat.auditing.decoding.scan import Progress
    from cpufeat.auditing.report import Audit


def check(
    file: str | os.PathLike[str],
    on: Host | str | None = None,
    *,
    libraries: bool = True,
    root: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Check:
    """Return whether a file runs on a machine (by default this one), or on the CPU or level of a request.

    The file, and with ``libraries`` all that it loads, is judged by the instructions that are reached without a
    run-time check of the CPU (:func:`cpufeat.audit`). Libraries are searched for as the loader does that the file asks
    for, in ``root``, by default among the files of this machine; what LD_LIBRARY_PATH and LD_PRELOAD name is loaded
    only where this machine is asked, without ``root``. A script is judged by its interpreter, and at best it cannot be
    told whether it runs. ``progress`` is called as by :func:`cpufeat.audit`, for each file. Raises AuditError for a
    file that is no binary, or that has members of several architectures where ``on`` is a request; OSError;
    UnknownNameError and TargetError for a bad request; OptionError for a ``root`` that can be no path.
    """
    expect("on", on, (Host, str, type(None)), "a Host, a level or CPU as a str, or None")
    one_of("libraries", libraries, (True, False))
    expect("root", root, (str, os.PathLike, type(None)), "a path or None")
    expect_progress(progress)
    place = _place(on, root)._replace(progress=progress)
    content, name = content_of(file)
    if libraries and content.startswith(MAGIC):
        return _check_script(content if b"\n" in content else files.read(file), name, place)
    return _check_binary(content, name, place, libraries=libraries)


def _check_script(first_bytes: bytes, name: str, place: Place) -> Check:
    """Judge a script by the program that runs it; what the script itself does is not known."""
    interpreter = interpreter_of(first_bytes, place.root)
    unknown = "what the script itself loads and starts was not looked at"
    if not interpreter.real:
        return Check(name, place.on, CANNOT_TELL, (f"its interpreter {interpreter.path!r} was not found", unknown))
    answer = _check_binary(files.read(interpreter.real), interpreter.real, place, libraries=True)
    told = () if answer.verdict == RUNS else (f"its interpreter {interpreter.path}: {answer.verdict}",)
    return Check(
        name,
        place.on,
        worst([answer.verdict, CANNOT_TELL]),
        (*told, unknown),
        libraries=(answer.replace(libraries=None, may_load=()), *(answer.libraries or ())),
        may_load=answer.may_load,
    )


def _check_binary(content: bytes, name: str, place: Place, *, libraries: bool) -> Check:
    audit = audit_content(content, name, place.progress)
    chosen = _part_for_host(audit, place.host) if place.host else _part_for_request(audit, place.on)
    if isinstance(chosen, str):
        return _wrong_architecture(audit, place.on, chosen)
    part, available = chosen
    answer = check_file(part, content, available, place.on, place.host)
    if not libraries or (place.host and not loads(place.host.system, part.format)):
        return answer
    return with_libraries(answer, Part(name, part, _content_of(part, content, name), available), place)


def _place(on: Host | str | None, root: str | os.PathLike[str] | None) -> Place:
    """Return where the file is to run. Raises OSError for a root that is no folder."""
    host = None if isinstance(on, str) else on or detect()
    name = called(host) if host else str(on)
    if root is not None:
        try:
            folder = Path(root).resolve(strict=True)
        except ValueError as error:
            raise OptionError(f"root: {error}") from None
        return Place(name, host, Root(str(folder)))
    if on is not None or os.environ.get(MACHINE_VARIABLE):
        return Place(name, host, Root())
    folders, libraries = (os.environ.get(variable, "") for variable in ("LD_LIBRARY_PATH", "LD_PRELOAD"))
    return Place(name, host, Root("", tuple(re.split("[:;]", folders)) if folders else (), tuple(libraries.split())))


def _part_for_request(audit: Audit, request: str) -> tuple[Audit, FeatureSet] | str:
    """Return the audit to judge and the features of a request; if it is for another architecture, the name of that."""
    if not audit.arch:
        raise AuditError(f"{audit.name}: has code for several architectures: check one of its members, or on a machine")
    try:
        return audit, Target.parse(request, _triple(audit.arch)).features
    except UnknownNameError:
        family = _family_with(request)
        if not family:
            raise
        return family


def _part_for_host(audit: Audit, host: Host) -> tuple[Audit, FeatureSet] | str:
    """Return the audit to judge, of the file or of the member that the machine runs, and the machine's features."""
    part = _member_for(audit, host.arch)
    return (part, FeatureSet(part.arch, host.features.names)) if part else host.arch


def _content_of(part: Audit, content: bytes, name: str) -> bytes:
    """Return the content of the part of a file that an audit is of."""
    known = format_of(content)
    members = known.members(content, name) if known and known.members else ()
    return next((member for member, member_name in members if member_name == part.name), content)


def called(host: Host) -> str:
    """Return a machine's name or brand and, in brackets, its CPU as LLVM names it."""
    name = host.name or host.brand
    return f"{name} ({host.cpu})" if name else host.cpu


def _triple(arch: str) -> str:
    return f"{architecture(arch).triple}-unknown-linux-gnu"


def _family_with(request: str) -> str:
    """Return the first family of architectures that has the CPU or level of a request, empty if there is none."""
    for arch, *_ in rows("architectures.tsv"):
        try:
            Target.parse(request, _triple(arch))
        except (TargetError, UnknownNameError):
            continue
        return architecture(arch).family
    return ""


def _wrong_architecture(audit: Audit, on: str, arch: str) -> Check:
    archs = dict.fromkeys(member.arch for member in (audit, *audit.members) if member.arch)
    reason = f"its code is for {', '.join(archs)}, but the CPU is {arch}"
    return Check(audit.name, on, WILL_NOT_RUN, (reason,))


def _member_for(audit: Audit, arch: str) -> Audit | None:
    """Return the audit of the code that CPUs of an architecture run: the file, or the best member of a container."""
    runnable = (arch, *(architecture(arch).also_runs.split() if has_tables(arch) else ()))
    candidates = [member for member in (audit, *audit.members) if member.arch in runnable]
    return min(candidates, key=lambda member: runnable.index(member.arch), default=None)
