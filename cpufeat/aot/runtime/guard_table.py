"""Write the start-up guard's table of required features, and narrow it after code generation to those that are used.

The table is a constant in the object: a marker to find it by; one byte for the whole, ``!`` where all code needs the
features, ``+`` where a variant that does not may run instead, ``-`` where no feature is needed; for each feature ``+``
(needed) or ``-`` (not needed), its name and a NUL; one more NUL. The compiler first lists all features of the target.
Once the emitted instructions have been read, the table is narrowed in place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cpufeat.aot.objects.gnu_property import isa_level
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.features import FeatureSet

NEEDED, NOT_NEEDED = b"+", b"-"
"""The sign of a feature."""
ALWAYS, SOMETIMES, NEVER = b"!", b"+", b"-"
"""The sign of the whole table: when its features are needed."""
_MARKER = b"\x7fcpufeat needs\x9d"
_TABLE = re.compile(re.escape(_MARKER) + rb"([!+-])((?:[+-]\w+\0)+)\0")
_ROW = re.compile(rb"[+-](\w+)")


def table(names: Sequence[str], *, always: bool = False) -> bytes:
    """Return the table of code that needs all of these features, ``always`` or only where no other variant runs."""
    rows = b"".join(NEEDED + name.encode() + b"\0" for name in names)
    return _MARKER + (ALWAYS if always else SOMETIMES) + rows + b"\0"


def sign_at(names: Sequence[str], index: int | None = None) -> int:
    """Return the offset of a feature's sign in the table, or of the whole table's if the index is None."""
    return len(_MARKER) if index is None else len(table(names[:index])) - 1


def narrow(content: bytes, used: FeatureSet) -> bytes:
    """Return an object whose guard tests no more than ``used``, the features of the last target's instructions.

    An object without a guard comes back unchanged. Raises ArtifactError for an object with several tables.
    """
    tables = list(_TABLE.finditer(content))
    if not tables:
        return content
    if len(tables) > 1:
        raise ArtifactError("the object has several of cpufeat's guard tables: does its data contain another one?")
    (match,) = tables
    sign, rows = match.groups()
    rows = _ROW.sub(lambda row: row[0] if row[1].decode() in used else NOT_NEEDED + row[1], rows)
    sign = sign if NEEDED in rows else NEVER
    return content[: match.start(1)] + sign + rows + content[match.end(2) :]


def demanded(content: bytes) -> frozenset[str]:
    """Return the features without which the guards of an object, or of a file linked from it, let nothing run."""
    always = b"".join(rows for sign, rows in _TABLE.findall(content) if sign == ALWAYS)
    return frozenset(row[1].decode() for row in _ROW.finditer(always) if row[0].startswith(NEEDED))


def level_to_state(content: bytes, used: FeatureSet) -> str:
    """Return the psABI level that an object with a narrowed table needs at load time; empty if it needs none.

    That is the level of its used features, if all of its code needs them.
    """
    return isa_level(used) if demanded(content) else ""
