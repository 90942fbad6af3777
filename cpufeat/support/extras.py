"""Import optional packages; a missing one raises an error that names the extra to install."""

from __future__ import annotations

from contextlib import contextmanager

from cpufeat.errors import MissingExtraError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import packages of an extra of cpufeat (``"audit"``) in this context. Raises MissingExtraError without them."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(name, str(error)) from None


def origin(package: str, name: str) -> str:
    """Return the path of the ``__init__.py`` of a package of the extra ``name``, without importing it.

    Raises MissingExtraError.
    """
    import importlib.util
    from pathlib import Path

    with extra(name):
        spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(name, f"{package} is not installed")
    return str(Path(spec.origin).absolute())
