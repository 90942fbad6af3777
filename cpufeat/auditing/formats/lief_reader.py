"""The one way into lief, which reads what is not ELF: quietly, and with damage as an error of ours."""

from __future__ import annotations

import warnings

from cpufeat.errors import AuditError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cpufeat.auditing.formats.image import Image


def image_by_lief(
    content: bytes, name: str, kind: str, parse: Callable[[Any, bytes], Any], image: Callable[..., Image]
) -> Image:
    """Return ``image(parse(lief, content), content, name)``. Raises AuditError for a damaged file of that kind."""
    import lief

    lief.logging.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about numbers that its enumerations do not have
        try:
            binary = parse(lief, content)
            if binary is None:
                raise AuditError(f"{name}: a damaged {kind}")
            return image(binary, memoryview(content), name)
        except AuditError:
            raise
        except Exception as error:  # what lief raises for damaged files is not written down
            raise AuditError(f"{name}: a damaged {kind}: {error}") from None


def text(name: str | bytes) -> str:
    """Return a name as text; lief has bytes for one that is not UTF-8."""
    return name if isinstance(name, str) else name.decode(errors="replace")
