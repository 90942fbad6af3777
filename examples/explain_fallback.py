"""What a request comes to on this machine, and the reason for each thing left out: a line for a compiler's log.

    python explain_fallback.py [REQUEST]

Without REQUEST, it is x86-64-v4, which many machines are not.
"""

from __future__ import annotations

import sys
import warnings

import cpufeat


def main() -> None:
    """Resolve and print; the decisions say all that the warning would."""
    request = sys.argv[1] if sys.argv[1:] else "x86-64-v4"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cpufeat.CpufeatWarning)
        resolution = cpufeat.resolve(request)
    target = resolution.target
    print(f"{request}: compiling for {target.cpu}, {len(target.features)} features, level {target.level}")
    for decision in resolution.decisions:
        print(f"  {decision.kind} {decision}")


if __name__ == "__main__":
    main()
