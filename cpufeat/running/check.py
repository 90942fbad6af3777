"""Predict whether a file runs on a machine or CPU, without running it: compare the features needed and available."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.auditing.auditor import audit_content
from cpufeat.auditing.formats.loader import content_of
from cpufeat.detection.detect import detect
from cpufeat.detection.host import Host
from cpufeat.errors import AuditError, TargetError, UnknownNameError, expect
from cpufeat.features import FeatureSet
from cpufeat.running.file_check import Check, check_file
from cpufeat.support.verdict import WILL_NOT_RUN
from cpufeat.tables import architecture, has_tables, rows
from cpufeat.target import Target

if TYPE_CHECKING:
    import os

    from cpufeat.auditing.report import Audit


def check(file: str | os.PathLike[str], on: Host | str | None = None) -> Check:
    """Return whether a file runs on a machine (by default this one), or on the CPU or level of a request.

    The file is judged by the instructions that are reached without a run-time check of the CPU (:func:`cpufeat.audit`).
    Raises AuditError for a file that is no binary, or that has members of several architectures where ``on`` is a
    request; OSError; UnknownNameError and TargetError for a bad request.
    """
    expect("on", on, (Host, str, type(None)), "a Host, a level or CPU as a str, or None")
    content, name = content_of(file)
    audit = audit_content(content, name)
    return _check_request(audit, content, on) if isinstance(on, str) else _check_host(audit, content, on or detect())


def _check_request(audit: Audit, content: bytes, request: str) -> Check:
    if not audit.arch:
        raise AuditError(f"{audit.name}: has code for several architectures: check one of its members, or on a machine")
    try:
        target = Target.parse(request, _triple(audit.arch))
    except UnknownNameError:
        family = _family_with(request)
        if not family:
            raise
        return _wrong_architecture(audit, request, family)
    return check_file(audit, content, target.features, request, None)


def _check_host(audit: Audit, content: bytes, host: Host) -> Check:
    member = _member_for(audit, host.arch)
    if member is None:
        return _wrong_architecture(audit, called(host), host.arch)
    available = FeatureSet(member.arch, host.features.names)
    return check_file(member, content, available, called(host), host)


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
