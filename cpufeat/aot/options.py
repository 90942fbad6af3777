"""Validate the options of a compilation, and hold them as one value."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cpufeat.errors import one_of, positive
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from typing import Literal

    from cpufeat.aot.runtime.dispatcher import Mechanism
    from cpufeat.resolution import OnMissing

    Guard = bool | Literal["ask"]
    Isolation = Literal["process", "none"]

TIME_LIMIT = 600.0
"""The default ``time_limit``, in seconds."""
MEMORY_LIMIT = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else None
"""The default ``memory_limit``: half of this machine's memory, in bytes."""
_CHOICES = {
    "dispatch": (None, "ifunc", "pointer"),
    "runtime_override": (False, True),
    "guard": (True, False, "ask"),
    "opt": (0, 1, 2, 3),
    "on_missing": ("fallback", "error"),
    "files": (True, False),
    "isolation": ("process", "none"),
}
_LIMITS = ("time_limit", "memory_limit")
_WITHOUT_EFFECT = {"files", "isolation", *_LIMITS}
"""The options that say how LLVM is run, not what it makes."""


class Options(Value):
    """How to compile a module; :func:`cpufeat.aot.compile` explains each option.

    Raises OptionError for a value that an option does not have, TypeError for a type that it does not take.
    """

    dispatch: Mechanism | None = None
    runtime_override: bool = False
    guard: Guard = True
    opt: int = 2
    on_missing: OnMissing = "fallback"
    files: bool = True
    isolation: Isolation = "process"
    time_limit: float | None = TIME_LIMIT
    memory_limit: int | None = MEMORY_LIMIT

    if not TYPE_CHECKING:

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self._validate()

    def _validate(self) -> None:
        for name, choices in _CHOICES.items():
            one_of(name, getattr(self, name), choices)
        for name in _LIMITS:
            limit = getattr(self, name)
            if limit is not None:
                positive(name, limit)

    def affecting_the_object(self) -> dict[str, object]:
        """Return, by name, every option that may change the object or the decisions that come with it."""
        return {name: value for name, value in vars(self).items() if name not in _WITHOUT_EFFECT}
