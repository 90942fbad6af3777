"""Call lief with logging silenced and its exceptions turned into AuditError."""

from __future__ import annotations

import warnings

from cpufeat.errors import AuditError
from cpufeat.support.extras import extra
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Result = TypeVar("Result")


def read_by_lief(
    content: bytes, name: str, kind: str, parse: Callable[[Any, bytes], Any], result: Callable[..., Result]
) -> Result:
    """Return ``result(parse(lief, content), content, name)``. Raises AuditError for a damaged file of that kind."""
    with extra("audit"):
        import lief

    lief.logging.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about values that lief's enumerations do not have
        try:
            binary = parse(lief, content)
            if binary is None:
                raise AuditError(f"{name}: a damaged {kind}")
            return result(binary, memoryview(content), name)
        except AuditError:
            raise
        except (ValueError, RuntimeError) as error:  # what lief raises, and our readers for what lies outside of a file
            raise AuditError(f"{name}: a damaged {kind}: {error}") from None


def text(name: str | bytes) -> str:
    """Return a name as text; lief returns bytes for a name that is not UTF-8."""
    return name if isinstance(name, str) else name.decode(errors="replace")
