"""State the calling convention of AArch64: AAPCS64, section 6, which Linux, macOS, Windows and the BSDs share."""

from __future__ import annotations

from cpufeat.auditing.lifting.aarch64_decoder import STACK
from cpufeat.auditing.lifting.semantics import FLAGS, Convention

_X = range(1, 32)
"""The registers ``x0`` to ``x30``."""
_V = range(STACK + 1, STACK + 33)
"""The registers ``v0`` to ``v31``."""
CALLEE_SAVED = frozenset([*_X[19:30], *_V[8:16]])
"""The registers that a call preserves."""
CONVENTION = Convention(
    stack=STACK,
    arguments=tuple(_X[:8]),
    results=(_X[0], _X[1]),
    lost=frozenset([*_X, *_V, FLAGS]) - CALLEE_SAVED,
    answers=frozenset(_X[:16]),  # Go returns in that many
    resolvers=(_X[0], _X[1]),  # AT_HWCAP, and a pointer to more of it: <sys/ifunc.h> of glibc and Bionic
    asking="an ID register",
    word=0,
    pages=True,
    asks_system=True,
)
