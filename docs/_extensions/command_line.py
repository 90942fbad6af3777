"""The parser of the command line with the arguments of every verb, for the reference of the site."""

from __future__ import annotations

import argparse

from cpufeat.cli.parser import VERBS, parser_of


def parser() -> argparse.ArgumentParser:
    """Return the parser; cpufeat itself fills in only the verb that is used."""
    whole = parser_of(None)
    verbs = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    for name in VERBS:
        verbs.choices[name] = parser_of(name)
    whole.epilog = None  # the other pages of the site say it
    return whole
