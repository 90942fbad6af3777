"""Parse the content of lscpu's output (util-linux): labels and values, from its text or its JSON (``lscpu --json``).

Its labels are translated; only the English ones are understood here (:mod:`cpufeat.detection.dumps` puts others into
English).
"""

from __future__ import annotations

from collections import Counter

from cpufeat.detection.probe.proc_cpuinfo import number
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_MAX_SHARED = 30
"""The most lines before the first kind that are about all kinds: lscpu prints about ten."""


def fields(content: bytes) -> dict[str, str]:
    """Return lscpu's values by label, without the indentation and sections of newer versions; a label's first counts.

    Raises ValueError for text that begins like JSON and is not JSON of lscpu.
    """
    return kinds(content)[0]


def kinds(content: bytes) -> list[dict[str, str]]:
    """Return the values by label of each kind of core: what repeats from ``Model name`` on is about the next kind.

    What is printed once, before the first kind, is about all of them. Raises ValueError for text that begins like JSON
    and is not JSON of lscpu.
    """
    pairs = list(entries(content.decode("utf-8", "replace")))
    labels = [label for label, _ in pairs]
    before = pairs[: labels.index("Model name")] if "Model name" in labels else pairs
    times = Counter(labels)
    shared = {label: value for label, value in before[:_MAX_SHARED] if times[label] == 1}
    cores: list[dict[str, str]] = [{}]
    vendor = ""
    for label, value in pairs:
        vendor = value if label == "Vendor ID" else vendor
        if label == "Model name" and label in cores[-1]:
            cores.append({**shared, "Vendor ID": vendor})
        cores[-1].setdefault(label, value)
    return cores


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield labels and values in the order of the text, or of the JSON.

    Raises ValueError for text that begins like JSON and is not JSON of lscpu.
    """
    if text.lstrip()[:1] == "{":
        yield from _json_pairs(text)
        return
    for line in text.splitlines():
        label, colon, value = line.partition(":")
        if colon:
            yield label.strip(), value.strip()


def _json_pairs(text: str) -> Iterator[tuple[str, str]]:
    import json

    try:
        waiting: list[Any] = list(json.loads(text)["lscpu"])
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not JSON of lscpu: {error!r}") from None
    waiting.reverse()
    while waiting:
        item = waiting.pop()
        if not isinstance(item, dict):
            raise ValueError(f"not JSON of lscpu: {item!r:.40} in place of a field")
        yield str(item.get("field", "")).strip().rstrip(":"), str(item.get("data") or "").strip()
        children = item.get("children")
        waiting += reversed(children if isinstance(children, list) else [])


def online(fields: dict[str, str]) -> int:
    """Return the number of processors in ``On-line CPU(s) list`` (``0-3,8``), or in ``CPU(s)``; at least one."""
    ends = [item.partition("-") for item in fields.get("On-line CPU(s) list", "").split(",")]
    spans = [(number(first.strip()), number(last.strip() or first.strip())) for first, _, last in ends]
    count = sum(last - first + 1 for first, last in spans if first is not None and last is not None and first <= last)
    return count or number(fields.get("CPU(s)", "")) or 1


def of_kind(fields: dict[str, str]) -> int:
    """Return the number of processors of one of several kinds, for which there is no list; at least one."""
    count = 1
    for label in ("Thread(s) per core", "Core(s) per socket", "Core(s) per cluster", "Socket(s)", "Cluster(s)"):
        count *= number(fields.get(label, "")) or 1
    return count
