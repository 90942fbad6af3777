"""Report the features that emitted code uses, and raise CompileError where its target does not permit one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.auditing.auditor import AUDITED, decoded
from cpufeat.auditing.checks.guarded_uses import guards
from cpufeat.auditing.formats.loader import image_of
from cpufeat.auditing.report import UNUSED
from cpufeat.errors import ArtifactError, AuditError, CompileError
from cpufeat.features import FeatureSet, family

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpufeat.auditing.decoding.scan import FunctionUses, Progress
    from cpufeat.auditing.formats.image import Image
    from cpufeat.target import Target

_CPUFEAT_FUNCTION = re.compile(r"_?__cpufeat_")
"""Detection and guard, which check for features before they use them."""
_CPUFEAT_USES = {"xsave"}
"""What they use, behind checks that need not be looked for: XGETBV."""
_RETURN_0 = {
    "x86": bytes.fromhex("31c0 c3"),  # xor eax, eax; ret
    "aarch64": bytes.fromhex("000080d2 c0035fd6"),  # mov x0, #0; ret
}


class _Excess(NamedTuple):
    """A use of a feature that a target does not permit."""

    function: FunctionUses
    feature: str
    target: Target


def used(
    name: str,
    code: bytes,
    targets: Sequence[Target],
    labels: Sequence[str],
    progress: Progress | None = None,
) -> tuple[FeatureSet | None, ...]:
    """Return the features above the baseline that the code for each target uses; None where that cannot be determined.

    ``labels`` are the suffixes of the functions of each target, where there are several targets. All other functions
    run with every target. Uses behind a run-time check of the code's own are permitted. Raises CompileError, which
    names the instruction, for any other use of a feature that the target does not permit.
    """
    if targets[0].arch not in AUDITED:
        return (None,) * len(targets)
    try:
        image = image_of(code, name)
        scan, text = decoded(image, progress)
    except AuditError as error:
        raise CompileError(f"{name}: what LLVM emitted cannot be audited: {error}") from None
    functions = [entry for entry in scan.functions if entry.uses and not _CPUFEAT_FUNCTION.match(entry.function.name)]
    by_target = [
        (target, [entry for entry in functions if _runs_with(entry.function.name, label, labels)])
        for target, label in zip(targets, labels, strict=True)
    ]
    for function, feature, target in _unguarded(image, [entry for pair in by_target for entry in _excess(*pair)]):
        address, symbol = function.uses[feature][0], function.function.name
        instruction = f"{text(image, address)} at {image.place_of(address)}"
        why = f"{instruction} uses {feature}, which {target.cpu} does not permit"
        raise CompileError(f"{name}: " + (f"function {symbol}: " if symbol else "") + why, symbol or None)
    if scan.undecoded or scan.unknown:  # perhaps instructions that are newer than the decoder
        return (None,) * len(targets)
    return tuple(
        FeatureSet(target.arch, {feature for entry in selected for feature in entry.uses if feature in target.features})
        for target, selected in by_target
    )


def unguarded_beyond(name: str, file: bytes, permitted: FeatureSet, labels: Sequence[str], picked: int) -> FeatureSet:
    """Return the features above the baseline, not among the permitted ones, that an object uses without a check.

    Only functions that run where the variant at index ``picked`` of the ``labels`` was selected count. Raises
    ArtifactError for a damaged object, and for code that the decoder does not know.
    """
    try:
        image = image_of(file, name or "the artifact")
        scan, _ = decoded(image)
    except AuditError as error:
        raise ArtifactError(str(error)) from None
    undecoded = [*(code.address for code in scan.unknown), *(code.address for code in scan.undecoded)]
    if undecoded:
        raise ArtifactError(f"{image.name}: the decoder does not know its code at {image.place_of(undecoded[0])}")
    uses = {}
    for entry in scan.functions:
        name = entry.function.name
        expected = permitted.names | _CPUFEAT_USES if _CPUFEAT_FUNCTION.match(name) else permitted.names
        unexpected = entry.uses.keys() - expected
        if unexpected and _runs_with(name, labels[picked], labels):
            uses[entry.function] = {feature: entry.uses[feature] for feature in unexpected}
    bare = (guard.bare for guard in (guards(image, uses).values() if uses else ()))
    return FeatureSet(image.arch, {feature for features in bare for feature in features})


def _runs_with(function: str, label: str, labels: Sequence[str]) -> bool:
    """Whether a function runs where the variant with that label was selected."""
    suffixes = tuple(f".{label}" for label in labels)
    return len(labels) == 1 or function.endswith(f".{label}") or not function.endswith(suffixes)


def _excess(target: Target, functions: Sequence[FunctionUses]) -> Iterator[_Excess]:
    for function in functions:
        if function.certain:
            for feature in function.uses.keys() - target.features.names:
                yield _Excess(function, feature, target)


def _unguarded(image: Image, excess: Sequence[_Excess]) -> list[_Excess]:
    """Return the uses that no run-time check of the code's own guards, also in code to which nothing refers.

    Selection of a variant is no such check.
    """
    if not excess:
        return []
    found = guards(_with_constant_answers(image), {use.function.function: use.function.uses for use in excess})
    guard_of = [(use, found[use.function.function.start]) for use in excess]
    return [use for use, guard in guard_of if use.feature in guard.bare or guard.reached == UNUSED]


def _with_constant_answers(image: Image) -> Image:
    """Return an image in which cpufeat's own functions return 0, so that the audit takes none for a run-time check."""
    cpufeat_functions = [function for function in image.functions if _CPUFEAT_FUNCTION.match(function.name)]
    sections = []
    for section in image.sections:
        content = bytearray(section.content)
        for function in cpufeat_functions:
            if section.address <= function.start < section.end:
                start, size = function.start - section.address, function.end - function.start
                content[start : start + size] = (_RETURN_0[family(image.arch)] * size)[:size]
        sections.append(section.replace(content=memoryview(content)))
    return image.replace(sections=tuple(sections))
