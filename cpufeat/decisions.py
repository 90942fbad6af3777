"""Define decisions and their evidence: why a feature is withheld, and what was changed about a request."""

from __future__ import annotations

from cpufeat.support.value import Value

NOT_REPORTED = "not reported"
UNSEEN = "cannot be seen"
STATE_OFF = "OS state not enabled"
NEEDS_PERMISSION = "needs a permission"
DIFFERS = "differs between cores"
CLEARED = "cleared by the kernel"
ERRATUM = "erratum"
DISABLED = "disabled by the user"

STAND_IN = "stand-in"
"""The kind of a decision to tune for another CPU, where LLVM does not have this one."""


class Withheld(Value):
    """The reason why a feature is not usable, and the evidence. ``str()`` gives both: ``not reported (...)``."""

    reason: str
    """``not reported``, ``cannot be seen``, ``OS state not enabled``, ``needs a permission``, ``erratum``,
    ``differs between cores``, ``cleared by the kernel`` or ``disabled by the user``."""
    evidence: str
    """Where that was read: ``CPUID 7.0:EBX[16] is 0``, ``XCR0 is 0x3, needs 0x6``; empty where nothing tells more."""

    def __str__(self) -> str:
        return f"{self.reason} ({self.evidence})" if self.evidence else self.reason


class Decision(Value):
    """One difference between a request or a reading and the result."""

    kind: str
    """``identity``, ``stand-in``, ``disagreement``, ``source``, ``dropped``, ``added``, ``removed``, ``permission``,
    ``environment``, ``function`` or ``fallback``."""
    subject: str
    """The feature, CPU, variable or function that it is about."""
    reason: str
    """A sentence for people."""
    evidence: str = ""
    """The source of the fact: ``CPUID 7.0:EBX[16]``, a variable, a file."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}" + (f" ({self.evidence})" if self.evidence else "")
