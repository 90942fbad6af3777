"""``/proc/cpuinfo``: what Linux says of each processor, in every architecture's layout.

On x86 the ``flags`` leave out what the kernel did not enable (Documentation/arch/x86/cpuinfo.rst).
"""

from __future__ import annotations

from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterable


class Processor(Value):
    """What the kernel prints of an x86 processor; None or empty where it prints nothing."""

    vendor: str
    family: int | None
    model: int | None
    stepping: int | None
    brand: str
    flags: frozenset[str]


def processors(content: bytes) -> list[Processor]:
    """Return the processors of an x86 ``/proc/cpuinfo``, in its order."""
    return [_processor(block) for block in blocks(content) if "flags" in block or "cpu family" in block]


def _processor(block: dict[str, str]) -> Processor:
    return Processor(
        vendor=block.get("vendor_id", ""),
        family=number(block.get("cpu family", "")),
        model=number(block.get("model", "")),
        stepping=number(block.get("stepping", "")),
        brand=brand(block.get("model name", "")),
        flags=frozenset(block.get("flags", "").split()),
    )


def alike(found: Iterable[Processor]) -> dict[Processor, int]:
    """Return how many processors there are of each kind, in order of first appearance."""
    counts: dict[Processor, int] = {}
    for processor in found:
        counts[processor] = counts.get(processor, 0) + 1
    return counts


def blocks(content: bytes) -> list[dict[str, str]]:
    """Return the paragraphs of ``/proc/cpuinfo``, each as values by key; a key's first value counts.

    One paragraph is one processor on most architectures. Arm, POWER and RISC-V add paragraphs on the whole machine,
    s390x puts all its processors (keys ``processor 0``, ...) into one. A second ``processor`` starts a new one even
    where the empty line between them was lost. Lines without a colon are skipped.
    """
    found: list[dict[str, str]] = [{}]
    for line in content.decode("utf-8", "replace").splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not line.strip() or (key == "processor" and key in found[-1]):
            found.append({})
        if colon:
            found[-1].setdefault(key, value)
    return [block for block in found if block]


def number(text: str) -> int | None:
    """Return a decimal number of up to nine digits, or None for any other text."""
    return int(text) if text.isdecimal() and len(text) < 10 else None


def brand(text: str) -> str:
    """Return a brand string with single spaces, empty for the kernel's ``unknown``."""
    text = " ".join(text.split())
    return "" if text == "unknown" else text
