"""What emitted code uses, by its own instructions, and that it is no more than was permitted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.auditing.auditor import AUDITED, decoded
from cpufeat.auditing.checks.guarded_uses import guards
from cpufeat.auditing.formats.loader import image_of
from cpufeat.errors import AuditError, CompileError
from cpufeat.features import FeatureSet, family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.auditing.decoding.scan import FunctionUses
    from cpufeat.auditing.formats.image import Image
    from cpufeat.target import Target

_OWN = re.compile(r"_?__cpufeat_")
"""Detection and guard, which ask before they use anything."""


_RETURN_0 = {
    "x86": bytes.fromhex("31c0 c3"),  # xor eax, eax; ret
    "aarch64": bytes.fromhex("000080d2 c0035fd6"),  # mov x0, #0; ret
}


class _Excess(NamedTuple):
    """A use of what a target does not permit."""

    body: FunctionUses
    feature: str
    target: Target


def used(name: str, code: bytes, targets: Sequence[Target], labels: Sequence[str]) -> tuple[FeatureSet | None, ...]:
    """Return the features above the baseline that the code for each target uses; None where nobody can tell.

    ``labels`` are what the names of each target's functions end in, where there are several targets. All other
    functions run with every one of them. What stands behind a run-time check of the code's own does not count.
    Raises CompileError, which names the instruction, for code that uses what its target does not permit.
    """
    if targets[0].arch not in AUDITED:
        return (None,) * len(targets)
    try:
        image = image_of(code, name)
        scan, text = decoded(image)
    except AuditError as error:
        raise CompileError(f"{name}: what LLVM emitted cannot be audited: {error}") from None
    bodies = [body for body in scan.functions if body.uses and not _OWN.match(body.function.name)]
    own = [[body for body in bodies if _runs_with(body, label, labels)] for label in labels]
    excess = [
        _Excess(body, feature, target)
        for target, its in zip(targets, own, strict=True)
        for body in its
        if body.certain
        for feature in body.uses.keys() - target.features.names
    ]
    for body, feature, target in _bare(image, excess):
        at = body.uses[feature][0]
        where = f"{text(image, at)} at {image.place_of(at)} uses {feature}, which {target.cpu} does not permit"
        raise CompileError(f"{name}: function {body.function.name}: {where}", body.function.name)
    if scan.undecoded:  # perhaps instructions that are newer than the decoder
        return (None,) * len(targets)
    return tuple(
        FeatureSet(target.arch, {feature for body in its for feature in body.uses if feature in target.features})
        for target, its in zip(targets, own, strict=True)
    )


def _runs_with(body: FunctionUses, label: str, labels: Sequence[str]) -> bool:
    """Whether a function runs where the variant of that label was chosen."""
    name = body.function.name
    return len(labels) == 1 or name.endswith(f".{label}") or not name.endswith(tuple(f".{one}" for one in labels))


def _bare(image: Image, excess: Sequence[_Excess]) -> list[_Excess]:
    """Return what no check of the code's own stands before. That a variant was picked permits it what it may use."""
    if not excess:
        return []
    found = guards(_without_answers(image), {body.function: body.uses for body, _, _ in excess})
    return [one for one in excess if one.feature in found[one.body.function.start].bare]


def _without_answers(image: Image) -> Image:
    """Return an image of which cpufeat's own code learns nothing about the CPU: its functions return 0."""
    own = [function for function in image.functions if _OWN.match(function.name)]
    sections = []
    for section in image.sections:
        content = bytearray(section.content)
        for function in own:
            if section.address <= function.start < section.end:
                start, size = function.start - section.address, function.end - function.start
                content[start : start + size] = (_RETURN_0[family(image.arch)] * size)[:size]
        sections.append(section.replace(content=memoryview(content)))
    return image.replace(sections=tuple(sections))
