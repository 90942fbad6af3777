"""Read this machine: one module per operating system. :class:`ThisMachine` is the class of the running one.

As ``os.path`` is ``posixpath`` or ``ntpath``, the choice is made once, when this is imported. In order: :mod:`.base`
holds what all systems have in common, the others derive from it, and :mod:`.sysctl` serves macOS and the BSDs.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from cpufeat.detection.systems.windows import Windows as ThisMachine
elif sys.platform == "darwin":
    from cpufeat.detection.systems.darwin import Darwin as ThisMachine
elif sys.platform == "linux" or sys.platform == "android":
    from cpufeat.detection.systems.linux import Linux as ThisMachine
elif sys.platform.startswith(("freebsd", "openbsd", "netbsd", "dragonfly")):
    from cpufeat.detection.systems.bsd import Bsd as ThisMachine
else:
    from cpufeat.detection.systems.base import NativeMachine as ThisMachine

__all__ = ["ThisMachine"]
