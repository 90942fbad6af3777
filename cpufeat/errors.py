"""What can go wrong. ``str(error)`` is the message for people; the attributes are for programs."""

from __future__ import annotations

_MAX_SUGGESTIONS = 3


class CpufeatError(Exception):
    """Base of every error that cpufeat raises on purpose."""


class UnknownNameError(CpufeatError, ValueError):
    """A feature, CPU, level or architecture that no table has."""

    def __init__(self, kind: str, name: str, nearest: tuple[str, ...] = ()) -> None:
        """Say that ``name`` is no known ``kind`` (``"x86 feature"``), and which names come ``nearest``, or are all."""
        self.kind, self.name, self.nearest = kind, name, nearest
        hint = (
            f"did you mean {' or '.join(nearest)}?"
            if len(nearest) <= _MAX_SUGGESTIONS
            else f"known are {', '.join(nearest)}"
        )
        super().__init__(f"unknown {kind} {name!r}{f'; {hint}' if nearest else ''}")


class MissingFeaturesError(CpufeatError):
    """Features that were asked for and that the host cannot run; ``missing`` maps each name to the reason."""

    def __init__(self, subject: str, missing: dict[str, str]) -> None:
        """Say that ``subject`` needs what is ``missing``."""
        self.missing = missing
        listed = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        super().__init__(f"{subject} needs what this host cannot run ({listed})")


class DumpError(CpufeatError, ValueError):
    """A recorded machine that cannot be read; the message names the file and, where there is one, the line."""


class TargetError(CpufeatError, ValueError):
    """A request or target that contradicts itself, or another one."""


class CompileError(CpufeatError):
    """LLVM refused, aborted, hung or ran out of memory; ``function`` is the function it was at, where that is known."""

    def __init__(self, message: str, function: str | None = None) -> None:
        """Keep the ``function`` beside the message."""
        self.function = function
        super().__init__(message)


class LinkError(CpufeatError):
    """A linker that refused, hung or is missing; the message has its own words."""


class ArtifactError(CpufeatError):
    """A file that is no artifact of cpufeat, or a damaged one."""


class AuditError(CpufeatError, ValueError):
    """A file that is no binary, or a damaged one, or one of an architecture that is not audited; names the file."""


class VerifyError(CpufeatError):
    """A program that cannot be run on other CPUs here: it is no executable, or there is no emulator, or no such CPU."""


class CpufeatWarning(UserWarning):
    """A request that was granted with something left out."""
