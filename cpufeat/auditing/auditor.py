"""Audit a file: read it, decode its code, analyse the images and put the results together in a report."""

from __future__ import annotations

from cpufeat.auditing.formats import loader
from cpufeat.auditing.report import Audit, FunctionNeeds, Unknown, Use
from cpufeat.errors import AuditError
from cpufeat.features import FeatureSet
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cpufeat.auditing.checks.guarded_uses import Guard
    from cpufeat.auditing.decoding.scan import FunctionUses, Progress, Scan, UnknownCode
    from cpufeat.auditing.formats.image import Function, Image

AUDITED = ("x86_64", "i686", "aarch64")
"""Architectures whose code can be decoded."""
_MAX_USES = 3
"""The number of uses of a feature or mnemonic that a report lists, the first by address."""
_MAX_INSTRUCTION = 15
"""Bytes of the longest instruction."""


def audit(file: str | os.PathLike[str] | bytes, *, progress: Progress | None = None) -> Audit:
    """Return the needs of a binary, from its own instructions.

    ``file``: the path or the content of an ELF or Mach-O file, a COFF object, a PE file, an archive or a universal
    binary, of x86 or 64-bit Arm. ``progress`` is called from time to time with the number of bytes of code that are
    decoded, and with their total. Raises AuditError for any other file and for a damaged one, and OSError.
    """
    expect_progress(progress)
    return audit_content(*loader.content_of(file), progress)


def expect_progress(progress: object) -> None:
    """Raise TypeError unless an argument can be called to report progress, or is None."""
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be a function of two numbers or None, not {type(progress).__name__}")


def audit_content(content: bytes, name: str, progress: Progress | None = None, depth: int = 0) -> Audit:
    """Audit the content of a file of that name, inside of ``depth`` containers. Raises AuditError."""
    known = loader.format_of(content)
    if known is None or known.members is None:
        return audit_image(loader.image_of(content, name), progress)
    if depth == loader.MAX_DEPTH:
        raise AuditError(f"{name}: too many nested containers")
    audits, skipped = [], []
    for member, member_name in known.members(content, name):
        if loader.is_binary(member):
            audits.append(audit_content(member, member_name, progress, depth + 1))
        else:
            skipped.append(member_name)
    if not audits:
        raise AuditError(f"{name}: {_without_binary(skipped)}")
    return _container_audit(name, known.name, audits, skipped)


def _without_binary(members: Sequence[str]) -> str:
    """Say what a container is of which no member is a binary."""
    if members and members[0].endswith("(debian-binary)"):
        return "a Debian package: unpack it (dpkg-deb -x) and look at the programs and libraries in it"
    return f"there is no binary in it, only {', '.join(members[:_MAX_USES])}" if members else "an empty archive"


def _container_audit(name: str, kind: str, members: Sequence[Audit], skipped: Sequence[str]) -> Audit:
    """Return the audit of a container."""
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
    return FeatureSet(arch, {name for features in sets if features is not None for name in features}) if arch else None


def audit_image(image: Image, progress: Progress | None = None) -> Audit:
    """Return the audit of an image. Raises AuditError for an architecture that is not one of :data:`AUDITED`."""
    from cpufeat.auditing.checks.alignment import misaligned
    from cpufeat.auditing.checks.guarded_uses import guards
    from cpufeat.auditing.checks.isa_note import isa_note

    scan, text = decoded(image, progress)
    above_baseline = [scanned for scanned in scan.functions if scanned.uses]
    guard_of = guards(image, {scanned.function: scanned.uses for scanned in above_baseline})
    functions = tuple(_function(image, scanned, guard_of[scanned.function.start], text) for scanned in above_baseline)
    needs = FeatureSet(image.arch, {name for scanned in above_baseline for name in scanned.uses})
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
        harmless=_merged(image, (scanned.harmless for scanned in scan.functions), text),
        others=_merged(image, (scanned.others for scanned in scan.functions), text),
        misaligned=misaligned(image),
        note=isa_note(image, needs, bare),
        undecoded=scan.undecoded,
        instructions=scan.instructions,
        unknown=tuple(_unknown(image, code) for code in scan.unknown),
    )


def decoded(image: Image, progress: Progress | None = None) -> tuple[Scan, Callable[[Image, int], str]]:
    """Return the scan of an image's code, and the function that returns an instruction as assembly.

    Raises AuditError for an architecture that is not one of :data:`AUDITED`.
    """
    if image.arch in ("x86_64", "i686"):
        from cpufeat.auditing.decoding import x86

        return x86.scan(image, progress), x86.instruction_text
    if image.arch == "aarch64":
        from cpufeat.auditing.decoding import aarch64

        return aarch64.scan(image, progress), aarch64.instruction_text
    raise AuditError(f"{image.name}: {image.arch} code: only x86 and 64-bit Arm are audited")


def _function(image: Image, scanned: FunctionUses, guard: Guard, text: Callable[[Image, int], str]) -> FunctionNeeds:
    return FunctionNeeds(
        name=_name(image, scanned.function),
        start=scanned.function.start,
        uses={name: _uses(image, addresses, text) for name, addresses in sorted(scanned.uses.items())},
        bare=FeatureSet(image.arch, guard.bare),
        reached=guard.reached,
        why=guard.why,
        certain=scanned.certain,
    )


def _name(image: Image, function: Function) -> str:
    return function.name or image.name_of(function.start) or image.place_of(function.start)


def _unknown(image: Image, code: UnknownCode) -> Unknown:
    function, size = code.function, code.size or _MAX_INSTRUCTION
    return Unknown(
        address=code.address,
        place=image.place_of(code.address),
        bytes=image.bytes_at(code.address, size).hex(" "),
        function=_name(image, function),
        least=code.least,
        reason=f"{code.kind} needs at least {code.least}" if code.least else "no instruction that is known",
        certain=code.certain,
    )


def _uses(image: Image, addresses: Iterable[int], text: Callable[[Image, int], str]) -> tuple[Use, ...]:
    first = sorted(addresses)[:_MAX_USES]
    return tuple(Use(address, image.place_of(address), text(image, address)) for address in first)


def _merged(
    image: Image, by_function: Iterable[Mapping[str, Sequence[int]]], text: Callable[[Image, int], str]
) -> dict[str, tuple[Use, ...]]:
    """Return the first uses of each mnemonic in all functions together."""
    addresses: dict[str, list[int]] = {}
    for uses in by_function:
        for mnemonic, uses_addresses in uses.items():
            addresses.setdefault(mnemonic, []).extend(uses_addresses[:_MAX_USES])
    return {name: _uses(image, addresses[name], text) for name in sorted(addresses)}
