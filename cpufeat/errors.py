"""Define the exceptions. ``str(error)`` is the message for people; the attributes are for programs.

A wrong type raises TypeError, which is not among them; the functions here check arguments, and their messages say what
an argument takes.
"""

from __future__ import annotations

import sys

_MAX_SUGGESTIONS = 3


def expect(argument: str, value: object, kinds: type | tuple[type, ...], takes: str) -> None:
    """Raise TypeError unless the value of an argument is of one of those types; ``takes`` says which, in words."""
    if not isinstance(value, kinds):
        raise TypeError(f"{argument} must be {takes}, not {type(value).__name__}")


def one_of(argument: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise OptionError unless an argument's value is among the choices, TypeError if its type is none of theirs."""
    if value not in choices:
        told = f"{argument} must be one of {', '.join(map(repr, choices))}, not {value!r}"
        raise OptionError(told) if isinstance(value, tuple(map(type, choices))) else TypeError(told)


def expect_strings(argument: str, value: object) -> None:
    """Raise TypeError unless the value of an argument is a list or another sequence of strings, and not one string."""
    from collections.abc import Sequence

    is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    if not is_list or not all(isinstance(item, str) for item in value):  # type: ignore[attr-defined]
        raise TypeError(f"{argument} must be a list of str, not {value!r}")


def positive(argument: str, value: object) -> None:
    """Raise OptionError unless the number is above zero, TypeError for what is no number."""
    expect(argument, value, (int, float), "a number")
    if not value > 0:  # type: ignore[operator]
        raise OptionError(f"{argument} must be positive, not {value!r}")


def warn(message: str) -> None:
    """Issue a CpufeatWarning at the first line outside this package: the one that the user can change."""
    import os
    import warnings

    package = os.path.dirname(__file__)
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, CpufeatWarning, stacklevel=level)


class CpufeatError(Exception):
    """Base of every error that cpufeat raises on purpose. Each can be copied and pickled, with all its attributes."""

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to make a copy: not by ``__init__``, whose arguments are not the message."""
        import copyreg

        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class UnknownNameError(CpufeatError, ValueError):
    """A feature, CPU, level or architecture that no table of its architecture has."""

    kind: str
    """What the name should be: ``x86 feature``, ``aarch64 CPU``."""
    name: str
    """The name as given."""
    nearest: tuple[str, ...]
    """Names that may be meant, the most similar first: at most three, or all that there are."""
    elsewhere: tuple[str, ...]
    """The families of architectures that have the name: ``aarch64``."""

    def __init__(self, kind: str, name: str, nearest: tuple[str, ...] = (), elsewhere: tuple[str, ...] = ()) -> None:
        """Report an unknown ``name`` of a ``kind``; see the attributes for the arguments."""
        self.kind, self.name, self.nearest, self.elsewhere = kind, name, nearest, elsewhere
        are_suggestions = len(nearest) <= _MAX_SUGGESTIONS
        hint = f"did you mean {' or '.join(nearest)}?" if are_suggestions else f"known are {', '.join(nearest)}"
        other = f", which is one of {' and '.join(elsewhere)}" if elsewhere else ""
        super().__init__(f"unknown {kind} {name!r}{other}{f'; {hint}' if nearest else ''}")


class MissingExtraError(CpufeatError, ImportError):
    """A package that an extra of cpufeat installs is missing."""

    extra: str
    """The name of that extra: ``audit``."""

    def __init__(self, extra: str, reason: str) -> None:
        """Report why a package of the ``extra`` cannot be used, and how to install it."""
        self.extra = extra
        frozen = getattr(sys, "frozen", False)  # PyInstaller, cx_Freeze, Nuitka, ...: whose users have no pip
        remedy = "this application was built without" if frozen else "pip install"
        super().__init__(f"{reason}: {remedy} 'cpufeat[{extra}]'")


class MissingFeaturesError(CpufeatError):
    """Requested features that the host cannot run."""

    missing: dict[str, str]
    """Feature -> the reason and its evidence, in words."""

    def __init__(self, subject: str, missing: dict[str, str]) -> None:
        """Report that ``subject`` needs the ``missing`` features."""
        self.missing = missing
        listed = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        super().__init__(f"{subject} needs what this host cannot run ({listed})")


class DumpError(CpufeatError, ValueError):
    """A recorded machine that cannot be read; the message names the file and, if known, the line."""


class TargetError(CpufeatError, ValueError):
    """A request or target that contradicts itself, or another one."""


class OptionError(CpufeatError, ValueError):
    """An argument has a value that it does not take; the message says which ones it takes."""


class CompileError(CpufeatError):
    """LLVM failed, aborted, hung or ran out of memory."""

    function: str | None
    """The function that it was compiling, None if that is not known."""

    def __init__(self, message: str, function: str | None = None) -> None:
        """Keep the ``function`` beside the message."""
        self.function = function
        super().__init__(message)


class LinkError(CpufeatError):
    """A linker that failed, hung or is missing; the message quotes it."""


class ArtifactError(CpufeatError):
    """A file that is not an artifact of cpufeat, or a damaged artifact."""


class AuditError(CpufeatError, ValueError):
    """A file that is not a binary, is damaged, or is of an architecture that cannot be audited; names the file."""


class VerifyError(CpufeatError):
    """A program that cannot be run on other CPUs here: not an executable, no emulator for it, or no such CPU."""


class FromVariable:
    """A context that adds the name of an environment variable to the message of an error that its value causes."""

    def __init__(self, variable: str) -> None:
        """Name the variable; errors are left as they are if it is empty."""
        self._variable = variable

    def __enter__(self) -> None:
        """Enter the context."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Change the error's message; the error is raised as it is otherwise."""
        if not self._variable:
            return
        if isinstance(error, CpufeatError):
            error.args = (f"{self._variable}: {error}",)
        elif isinstance(error, OSError) and error.strerror:
            error.strerror = f"{error.strerror} ({self._variable} names it)"
            error.args = (error.errno, error.strerror)


class CpufeatWarning(UserWarning):
    """A request was granted with features left out, or something is not as it was taken for."""
