"""``cpufeat audit``: list the CPU features that a binary needs."""

from __future__ import annotations

import json

from cpufeat.auditing import audit
from cpufeat.auditing.formats.loader import FORMATS
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
    formats = ", ".join(known.name for known in FORMATS if not known.refusal)
    parser.add_argument("file", metavar="FILE", help=f"a binary ({formats})")
    parser.add_argument("--max", metavar="TARGET", help="exit with 1 if the file needs more than this level or CPU")
    parser.add_argument("--json", action="store_true", help="print every function and address, for programs")


def run(options: Namespace) -> int:
    """Print the audit; the exit status is 1 if the file needs more than ``--max``."""
    limit = None if options.max is None else request_of(options.max)
    with progress("decoding") as report:
        result = audit(path_of(options.file), progress=report)
    beyond = _beyond(result, limit) if limit is not None else ()
    if options.json:
        print(json.dumps(to_json(result), indent=2))
    else:
        show(page(result, limit, beyond))
    return NO if beyond else OK


def _beyond(result: Audit, request: str) -> tuple[FunctionNeeds, ...]:
    """Return the functions that need more than a request; code of architectures that it does not name is ignored.

    Raises UnknownNameError if the request names a target of no architecture in the file.
    """
    archs = {part.arch for part in (result, *result.members)} - {""}
    limits: list[FeatureSet] = []
    errors: list[UnknownNameError] = []
    for arch in archs:
        try:
            limits.append(Target.parse(request, f"{arch}-unknown-linux-gnu").features)
        except UnknownNameError as error:
            errors.append(error)
    if errors and not limits:
        raise errors[0]
    return tuple(function for limit in limits for function in result.beyond(limit))
