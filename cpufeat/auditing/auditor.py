"""From a file to an account of it: reading, decoding, and what the analyses say."""

from __future__ import annotations

from cpufeat.auditing.formats import loader
from cpufeat.auditing.report import Audit, FunctionNeeds, Use
from cpufeat.errors import AuditError
from cpufeat.features import FeatureSet
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cpufeat.auditing.checks.guarded_uses import Guard
    from cpufeat.auditing.decoding.scan import FunctionUses, Progress, Scan
    from cpufeat.auditing.formats.image import Image

AUDITED = ("x86_64", "i686", "aarch64")
"""Architectures whose code is decoded."""
_FIRST = 3
"""How many places of a kind are told."""
_DEEPEST = 2
"""Containers in containers: a universal binary of archives."""


def audit(file: str | os.PathLike[str] | bytes, *, progress: Progress | None = None) -> Audit:
    """Return what a binary needs of a CPU, from its own instructions.

    ``file``: the path or the content of an ELF or Mach-O file, a COFF object, a PE file, an archive or a universal
    binary, of x86 or 64-bit Arm. ``progress`` is told now and then how many bytes of code are decoded, of how many.
    Raises AuditError for any other file and for a damaged one, and OSError.
    """
    return audit_content(*loader.content_of(file), progress)


def audit_content(content: bytes, name: str, progress: Progress | None = None, depth: int = 0) -> Audit:
    """Do what :func:`audit` does, with what was read before; it stands in so many archives. Raises AuditError."""
    known = loader.format_of(content)
    if known is None or known.members is None:
        return audit_image(loader.image_of(content, name), progress)
    if depth == _DEEPEST:
        raise AuditError(f"{name}: too many archives in one another")
    audits, skipped = [], []
    for member, member_name in known.members(content, name):
        if loader.is_binary(member):
            audits.append(audit_content(member, member_name, progress, depth + 1))
        else:
            skipped.append(member_name)
    return _together(name, known.name, audits, skipped)


def _together(name: str, kind: str, members: Sequence[Audit], skipped: Sequence[str]) -> Audit:
    """Return the audit of a file with members."""
    archs = {member.arch for member in members}
    arch = archs.pop() if len(archs) == 1 else ""
    return Audit(
        name=name,
        format=kind,
        arch=arch,
        kind="",
        members=tuple(members),
        skipped=tuple(skipped),
        needs=_union(arch, (member.needs for member in members)),
        bare=_union(arch, (member.bare for member in members)),
        functions=(),
        harmless={},
        others={},
        misaligned=(),
        note=None,
        undecoded=(),
        instructions=sum(member.instructions for member in members),
    )


def _union(arch: str, sets: Iterable[FeatureSet | None]) -> FeatureSet | None:
    return FeatureSet(arch, {name for one in sets if one is not None for name in one}) if arch else None


def audit_image(image: Image, progress: Progress | None = None) -> Audit:
    """Return what one image needs. Raises AuditError for an architecture whose code is not audited."""
    from cpufeat.auditing.checks.alignment import misaligned
    from cpufeat.auditing.checks.guarded_uses import guards
    from cpufeat.auditing.checks.isa_note import isa_note

    scan, text = decoded(image, progress)
    found = guards(image, {body.function: body.uses for body in scan.functions if body.uses})
    functions = tuple(_function(image, body, found[body.function.start], text) for body in scan.functions if body.uses)
    needs = FeatureSet(image.arch, {name for body in scan.functions for name in body.uses})
    bare = FeatureSet(image.arch, {name for function in functions for name in function.bare})
    return Audit(
        name=image.name,
        format=image.format,
        arch=image.arch,
        kind=image.kind,
        members=(),
        skipped=(),
        needs=needs,
        bare=bare,
        functions=functions,
        harmless=_merged(image, (body.harmless for body in scan.functions), text),
        others=_merged(image, (body.others for body in scan.functions), text),
        misaligned=misaligned(image),
        note=isa_note(image, needs, bare),
        undecoded=scan.undecoded,
        instructions=scan.instructions,
    )


def decoded(image: Image, progress: Progress | None = None) -> tuple[Scan, Callable[[Image, int], str]]:
    """Return what is in the code, and the function that writes an instruction.

    Raises AuditError for an architecture that is not one of :data:`AUDITED`.
    """
    if image.arch in ("x86_64", "i686"):
        from cpufeat.auditing.decoding import x86

        return x86.scan(image, progress), x86.instruction_text
    if image.arch == "aarch64":
        from cpufeat.auditing.decoding import aarch64

        return aarch64.scan(image, progress), aarch64.instruction_text
    raise AuditError(f"{image.name}: {image.arch} code: only x86 and 64-bit Arm are audited")


def _function(image: Image, body: FunctionUses, guard: Guard, text: Callable[[Image, int], str]) -> FunctionNeeds:
    start = body.function.start
    return FunctionNeeds(
        name=body.function.name or image.name_of(start) or image.place_of(start),
        start=start,
        uses={name: _uses(image, addresses, text) for name, addresses in sorted(body.uses.items())},
        bare=FeatureSet(image.arch, guard.bare),
        guarded=guard.guarded,
        why=guard.why,
        certain=body.certain,
    )


def _uses(image: Image, addresses: Iterable[int], text: Callable[[Image, int], str]) -> tuple[Use, ...]:
    first = sorted(addresses)[:_FIRST]
    return tuple(Use(address, image.place_of(address), text(image, address)) for address in first)


def _merged(
    image: Image, found: Iterable[Mapping[str, Sequence[int]]], text: Callable[[Image, int], str]
) -> dict[str, tuple[Use, ...]]:
    """Return the first places of each name."""
    addresses: dict[str, list[int]] = {}
    for one in found:
        for name, places in one.items():
            addresses.setdefault(name, []).extend(places[:_FIRST])
    return {name: _uses(image, addresses[name], text) for name in sorted(addresses)}
