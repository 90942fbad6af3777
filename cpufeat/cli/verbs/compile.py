"""``cpufeat compile``: C or LLVM IR to an object, a shared library or an executable."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

from cpufeat import aot
from cpufeat.cli.options import OK, add_machine, add_on_missing, path_of
from cpufeat.cpus import NATIVE
from cpufeat.detection.host import detect
from cpufeat.errors import CpufeatError
from cpufeat.levels import baseline
from cpufeat.request import parse
from cpufeat.resolution import resolve
from cpufeat.support import files
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.tables import of_triple
from cpufeat.target import Target

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from cpufeat.aot.artifact import Artifact
    from cpufeat.aot.toolchain.linker import Kind

_STDOUT = "-"
_GUARDS: dict[str, Any] = {"exit": True, "ask": "ask", "none": False}
_KINDS: dict[str, Kind] = {"o": "object", "obj": "object", "so": "shared", "dll": "shared", "dylib": "shared"}
_INPUTS = re.compile(r"\.(c|h|ll|bc|s|a|lib)$")
"""Names that nobody means for a program: an argument is missing, or two are in the wrong order."""

_CXX = (".C", ".c++", ".cc", ".cpp", ".cxx")


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "cpufeat compile FILE -o OUT [--target REQUEST ...] [OPTION ...] [-- ARGUMENT ...]"
    parser.epilog = "What follows -- is for the linker: -lm, -static, -Wl,..., more objects and libraries."
    parser.add_argument("file", metavar="FILE", help="C (.c), or LLVM IR as text (.ll) or bitcode (.bc)")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the file to write; - is stdout")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--exe", dest="kind", action="store_const", const="executable", help="an executable")
    kinds.add_argument(
        "--shared", dest="kind", action="store_const", const="shared", help="(.so .dll .dylib) a library"
    )
    kinds.add_argument("--object", dest="kind", action="store_const", const="object", help="(.o .obj) do not link")
    parser.add_argument(
        "--target",
        metavar="REQUEST",
        action="append",
        default=[],
        help="what to compile for (native); several, best first, are chosen from when the code is loaded",
    )
    parser.add_argument("--triple", help="another architecture or system (default --target: its lowest level)")
    parser.add_argument("--dispatch", choices=("ifunc", "pointer"), help="how to choose among several targets")
    parser.add_argument("--runtime-override", action="store_true", help="that choice honours CPUFEAT_DISABLE")
    parser.add_argument(
        "--guard",
        choices=_GUARDS,
        default="exit",
        help="where a CPU lacks something: say so and exit (exit), answer cpufeat_supported() (ask), nothing (none)",
    )
    parser.add_argument("--opt", type=int, choices=range(4), default=2, metavar="N", help="optimize: 0 to 3 (2)")
    parser.add_argument("--linker", choices=("cc", "zig"), help="the system's (for this machine), or ziglang's")
    for_c = parser.add_argument_group("C", "by the clang of ziglang: pip install 'cpufeat[c]'")
    for_c.add_argument("-I", metavar="DIR", dest="cflags", action="append", type="-I{}".format, help="look for headers")
    for_c.add_argument("-D", metavar="NAME", dest="cflags", action="append", type="-D{}".format, help="define a macro")
    for_c.add_argument("--cflag", metavar="FLAG", dest="cflags", action="append", help="for clang: --cflag=-ffast-math")
    add_machine(parser)
    add_on_missing(parser)


def run(options: Namespace) -> int:
    """Compile, link and write."""
    signal.signal(signal.SIGTERM, _leave)
    file, kind = path_of(options.file), _kind(options)
    _check(options, file, kind)
    targets = _targets(options)
    _check_input(file)
    module: object = Path(file)
    if file.endswith(".c"):
        module = aot.from_c(file, options.triple or detect().triple, options.cflags or ())
    how = {"opt": options.opt, "on_missing": options.on_missing, "guard": _GUARDS[options.guard]}
    artifact = aot.compile(module, **targets, **how)
    _write(artifact, options, kind)
    return OK


def _leave(number: int, _: object) -> None:
    """End as SIGTERM would, after temporary files and the linker are gone."""
    sys.exit(128 + number)


def _kind(options: Namespace) -> Kind:
    """Return the kind that was asked for, or that the name of the output stands for."""
    if options.kind:
        return options.kind  # type: ignore[no-any-return]
    if options.output == _STDOUT:
        return "object"
    name = Path(options.output).name
    if _INPUTS.search(name):
        raise CpufeatError(f"{options.output}: is that the output? Then say --exe, --shared or --object")
    return _KINDS.get(re.sub(r"(\.\d+)*$", "", name).rpartition(".")[2], "executable")


def _check(options: Namespace, file: str, kind: Kind) -> None:
    """Raise CpufeatError for options that do not go together."""
    if not options.output:
        raise CpufeatError("OUT is empty; is a shell variable unset?")
    if Path(options.output).exists() and Path(file).exists() and Path(file).samefile(options.output):
        raise CpufeatError(f"{options.output}: the output would replace the input")
    wrong = {
        "an object is not linked: leave out --linker, and what follows --": kind == "object"
        and (options.linker or options.rest),
        "a linked file is not written to standard output": kind != "object" and options.output == _STDOUT,
        "-I, -D and --cflag are for C, a FILE named .c": options.cflags and not file.endswith(".c"),
        "--dispatch and --runtime-override need several --target": (options.dispatch or options.runtime_override)
        and len(options.target) < 2,
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise CpufeatError(message)


def _check_input(file: str) -> None:
    """Raise CpufeatError for what cannot be read, or is C++ by its name; a pipe is read once, and not here."""
    path = Path(file)
    if path.suffix in _CXX:
        raise CpufeatError(f"{file}: C++ is not compiled here: give C (.c), or the IR of clang++ -S -emit-llvm (.ll)")
    try:
        if not path.is_fifo():
            path.open("rb").close()
    except (OSError, ValueError) as error:
        raise CpufeatError(files.failure(file, error)) from None


def _targets(options: Namespace) -> dict[str, Any]:
    """Return what to compile for, as arguments of ``aot.compile``."""
    if options.triple is None and len(options.target) < 2:
        return {"target": next(iter(options.target), None)}
    targets = [_target(request, options) for request in options.target or [""]]
    if len(targets) == 1:
        return {"target": targets[0]}
    return {"targets": targets, "dispatch": options.dispatch, "runtime_override": options.runtime_override}


def _target(request: str, options: Namespace) -> Target:
    """Return a target of a list, or for another triple: whatever this machine is, unless the request is about it."""
    if options.triple is None:
        host = detect()
        if parse(request, host.arch).base == NATIVE:
            return resolve(request, host=host, on_missing=options.on_missing).target
        return Target.parse(request, host.triple)
    return Target.parse(request or baseline(of_triple(options.triple)), options.triple)


def _write(artifact: Artifact, options: Namespace, kind: Kind) -> None:
    if options.output == _STDOUT:
        sys.stdout.buffer.write(artifact.object)
    else:
        artifact.link(options.output, kind=kind, linker=options.linker, arguments=options.rest)
