"""``cpufeat audit``: what a binary needs of a CPU."""

from __future__ import annotations

import json

from cpufeat.auditing import audit
from cpufeat.auditing.report import to_json
from cpufeat.cli.audit_page import page
from cpufeat.cli.options import NO, OK, path_of, request_of
from cpufeat.cli.progress import progress
from cpufeat.cli.terminal import show
from cpufeat.errors import UnknownNameError
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.target import Target

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cpufeat.auditing.report import Audit, FunctionNeeds
    from cpufeat.features import FeatureSet


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="ELF, Mach-O, COFF, PE, an archive or a universal binary")
    parser.add_argument("--max", metavar="TARGET", help="exit with 1 if it needs more than that, such as x86-64-v2")
    parser.add_argument("--json", action="store_true", help="every function and address, for machines")


def run(options: Namespace) -> int:
    """Print the account; the exit status is 1 if the file needs more than ``--max``."""
    most = None if options.max is None else request_of(options.max)
    with progress("decoding") as told:
        found = audit(path_of(options.file), progress=told)
    beyond = _beyond(found, most) if most is not None else ()
    if options.json:
        print(json.dumps(to_json(found), indent=2))
    else:
        show(page(found, most, beyond))
    return NO if beyond else OK


def _beyond(found: Audit, request: str) -> tuple[FunctionNeeds, ...]:
    """Return the functions that need more than a request; code of architectures that it does not name is left alone."""
    archs = {one.arch for one in (found, *found.members)} - {""}
    features: list[FeatureSet] = []
    errors: list[UnknownNameError] = []
    for arch in archs:
        try:
            features.append(Target.parse(request, f"{arch}-unknown-linux-gnu").features)
        except UnknownNameError as error:
            errors.append(error)
    if errors and not features:
        raise errors[0]
    return tuple(function for limit in features for function in found.beyond(limit))
