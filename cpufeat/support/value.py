"""Define immutable records, without the start-up cost of :mod:`dataclasses`.

``import dataclasses`` takes longer than detecting this machine does (it loads ``inspect`` and ``re``), so the values
that :func:`cpufeat.target_for_host` makes derive from :class:`Value`. Type checkers see a frozen dataclass.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it to be true; importing it from typing costs more than all that is loaded
if TYPE_CHECKING:
    from typing import Any, ClassVar, NoReturn

    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_):
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Value:
    """An immutable record: annotated fields become arguments, compared and hashed by their contents."""

    _fields: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:

        def __init_subclass__(cls):
            cls._fields = (*cls._fields, *cls.__annotations__)

        def __init__(self, *args, **kwargs):
            values = args
            if kwargs or len(args) != len(self._fields):
                values = self._in_order(args, kwargs)
            self.__dict__.update(zip(self._fields, values, strict=True))

        def _in_order(self, args, kwargs):
            values = dict(zip(self._fields, args, strict=False), **kwargs)
            if len(values) != len(args) + len(kwargs) or not values.keys() <= set(self._fields):
                raise TypeError(f"{type(self).__name__} takes {', '.join(self._fields)}, each once")
            missing = [name for name in self._fields if name not in values and not hasattr(type(self), name)]
            if missing:
                raise TypeError(f"{type(self).__name__} needs {', '.join(missing)}")
            return [values[name] if name in values else getattr(type(self), name) for name in self._fields]

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: .replace({name}=...) makes a changed copy")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def replace(self, **changes: Any) -> Self:
        """Return a copy in which the named fields have other values. Raises TypeError for a name that is no field."""
        return type(self)(**{**self._values(), **changes})

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._values() == self._values()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that is pickled and copied: the fields alone."""
        return self._values()

    def _values(self) -> dict[str, Any]:
        """Return the fields, without what a ``cached_property`` has added."""
        return {name: self.__dict__[name] for name in self._fields}

    def __hash__(self) -> int:
        return hash(tuple(_hashable(getattr(self, name)) for name in type(self)._fields))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"


def _hashable(value: object) -> object:
    """Return a dictionary's items: a host and a recording have such fields, and are hashable as every value."""
    if isinstance(value, dict):
        return frozenset((key, _hashable(content)) for key, content in value.items())
    return value
