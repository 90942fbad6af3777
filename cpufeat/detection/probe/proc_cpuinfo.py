"""Parse the content of ``/proc/cpuinfo``: paragraphs, in the layout of every architecture, and their values."""

from __future__ import annotations

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    Kind = TypeVar("Kind")


def blocks(content: bytes) -> list[dict[str, str]]:
    """Return the paragraphs of ``/proc/cpuinfo``, each as values by key; a key's first value counts.

    One paragraph is one processor on most architectures. Arm, POWER and RISC-V add paragraphs on the whole machine,
    s390x puts all its processors (keys ``processor 0``, ...) into one. A second ``processor``, or a
    second of the key that a paragraph begins with, starts a new one even where the empty line between them was lost.
    Lines without a colon are skipped.
    """
    paragraphs: list[dict[str, str]] = [{}]
    for line in content.decode("utf-8", "replace").splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        repeats = key in paragraphs[-1] and key in ("processor", next(iter(paragraphs[-1])))
        starts_one = not line.strip() or repeats
        if starts_one and paragraphs[-1]:
            paragraphs.append({})
        if colon:
            paragraphs[-1].setdefault(key, value)
    return [block for block in paragraphs if block]


def number(text: str) -> int | None:
    """Return a decimal number of up to nine digits, or None for any other text."""
    return int(text) if text.isdecimal() and len(text) < 10 else None


def brand(text: str) -> str:
    """Return a brand string with single spaces, empty for the kernel's ``unknown``."""
    text = " ".join(text.split())
    return "" if text == "unknown" else text


def count_kinds(kinds: Iterable[Kind]) -> dict[Kind, int]:
    """Return the number of each kind, in order of first appearance."""
    counts: dict[Kind, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return counts
