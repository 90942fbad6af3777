"""``cpufeat audit``: list the CPU features that a binary needs."""

from __future__ import annotations

import json

from cpufeat.auditing import audit
from cpufeat.auditing.formats.loader import FORMATS
from cpufeat.auditing.report import to_json
from cpufeat.cli.audit_page import page
from cpufeat.cli.options import NO, OK, UNKNOWN, path_of, request_of
from cpufeat.cli.progress import progress
from cpufeat.cli.terminal import show
from cpufeat.detection.detect import detect
from cpufeat.errors import CpufeatError, UnknownNameError
from cpufeat.features import FeatureSet
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.tables import architecture
from cpufeat.target import Target

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cpufeat.auditing.report import Audit
    from cpufeat.detection.host import Host


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    formats = ", ".join(known.name for known in FORMATS if not known.refusal)
    parser.add_argument("file", metavar="FILE", help=f"a binary ({formats})")
    limit = parser.add_mutually_exclusive_group()
    statuses = "exit with 1 if the file needs more than {}, and with 3 if that cannot be told"
    limit.add_argument("--max", metavar="REQUEST", help=statuses.format("this level or CPU"))
    limit.add_argument("--machine", metavar="FILE", help=statuses.format("this recorded machine has"))
    parser.add_argument("--json", action="store_true", help="print every function and address, for programs")


def run(options: Namespace) -> int:
    """Print the audit; the exit status is 1 if the file needs more than ``--max`` or ``--machine``.

    It is 3 if the file does not, but has code that is not known.
    """
    limit = None if options.max is None else request_of(options.max)
    host = None if options.machine is None else detect()
    with progress("decoding") as report:
        result = audit(path_of(options.file), progress=report)
    limits: list[FeatureSet] = []
    if limit is not None:
        limits = _limits(result, limit)
    elif host is not None:
        from cpufeat.running.check import called

        limit, limits = called(host), _limits_of_host(result, host)
    beyond = [function for features in limits for function in result.beyond(features)]
    unknown = [code for features in limits for code in result.reached_unknown(features.arch)]
    if options.json:
        print(json.dumps(to_json(result), indent=2))
    else:
        show(page(result, limit, beyond, unknown))
    return NO if beyond else UNKNOWN if unknown else OK


def _limits_of_host(result: Audit, host: Host) -> list[FeatureSet]:
    """Return what a machine has, for each architecture in the file that it runs; code of others is ignored.

    Raises CpufeatError if the file has no code that the machine runs.
    """
    runnable = (host.arch, *architecture(host.arch).also_runs.split())
    archs = [arch for arch in runnable if arch in {part.arch for part in (result, *result.members)}]
    if not archs:
        raise CpufeatError(f"{result.name}: has no code for {host.arch}, the architecture of the machine")
    return [FeatureSet(arch, host.features.names) for arch in archs]


def _limits(result: Audit, request: str) -> list[FeatureSet]:
    """Return the features of a request, for each architecture in the file; code of those it does not name is ignored.

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
    return limits
