"""Where the project, and what lies beside it, is."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TESTS = PROJECT / "tests"
MACHINES = PROJECT / "data" / "machines"
PROGRAMS = TESTS / "programs"
"""C sources."""
KERNELS = PROGRAMS / "kernels"
GUARDS = PROGRAMS / "guards"
SCRIPTS = TESTS / "helpers" / "scripts"
"""What other interpreters run."""
SHARED = PROJECT.parent / "shared"
CORPORA = SHARED / "corpora"
"""Machines that others recorded; tests without them skip."""
CORPUS = CORPORA / "cases"
"""One folder a machine."""
