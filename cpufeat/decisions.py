"""What was decided, and from what: the values that ``explain`` prints."""

from __future__ import annotations

from cpufeat.support.value import Value

NOT_REPORTED = "not reported"
UNSEEN = "cannot be seen"
STATE_OFF = "OS state not enabled"
NEEDS_PERMISSION = "needs a permission"
DIFFERS = "differs between cores"
DISABLED = "disabled by the user"


class Withheld(Value):
    """Why a feature is not usable: one of the reasons above, and the evidence for it."""

    reason: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.evidence})" if self.evidence else self.reason


class Decision(Value):
    """One thing that came out otherwise than was asked, or than a reading says."""

    kind: str
    """``identity``, ``disagreement``, ``source``, ``dropped``, ``added``, ``removed``, ``permission``, ``environment``,
    ``function``, ``fallback``: what sort of decision this is."""
    subject: str
    """What it is about: a feature, a CPU, a variable, a function."""
    reason: str
    """The sentence for people."""
    evidence: str = ""
    """Where the fact comes from."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}" + (f" ({self.evidence})" if self.evidence else "")
