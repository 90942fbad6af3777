"""The parser of the command line with the arguments of every verb, for the reference of the site."""

from __future__ import annotations

import argparse
import importlib

from cpufeat.cli.parser import VERBS, parser_for


def parser() -> argparse.ArgumentParser:
    """Return the parser; cpufeat itself fills in only the verb that is used."""
    whole = parser_for("")
    verbs = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    for name in VERBS:
        importlib.import_module(f"cpufeat.cli.verbs.{name}").arguments(verbs.choices[name])
    return whole
