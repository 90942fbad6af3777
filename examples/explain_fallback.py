"""Resolve a request on this machine and print why each missing feature was left out, for a compiler's log.

    python explain_fallback.py [REQUEST]

REQUEST defaults to x86-64-v4, which many machines do not support.
"""

from __future__ import annotations

import sys
import warnings

import cpufeat


def main() -> None:
    """Resolve the request and print the decisions, which contain everything that the warning says."""
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
