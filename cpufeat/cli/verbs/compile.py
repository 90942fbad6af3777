"""``cpufeat compile``: compile C or LLVM IR to an object, a shared library or an executable."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

from cpufeat import aot
from cpufeat.cli.options import OK, add_machine, add_on_missing, path_of
from cpufeat.detection.detect import detect
from cpufeat.errors import CpufeatError
from cpufeat.levels import baseline
from cpufeat.request import NATIVE, parse
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
"""Names of inputs: as the name of the output, they mean that an argument is missing or out of order."""
_CXX = (".C", ".c++", ".cc", ".cpp", ".cxx")


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = "The arguments after -- are passed to the linker: -lm, -static, -Wl,..., objects and libraries."
    parser.add_argument("file", metavar="FILE", help="C (.c), LLVM IR (.ll) or bitcode (.bc)")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the output file; - is standard output")
    _add_kinds(parser)
    _add_targets(parser)
    parser.add_argument(
        "--guard",
        choices=_GUARDS,
        default="exit",
        help="on a CPU that lacks a feature: print a message and exit (exit, the default), "
        "let cpufeat_supported() return 0 (ask), or do nothing (none)",
    )
    optimization = "the optimization level: 0 to 3 (default: 2)"
    parser.add_argument("--opt", type=int, choices=range(4), default=2, metavar="N", help=optimization)
    no_files = "refuse LLVM IR whose assembly may read files (.incbin, .include)"
    parser.add_argument("--no-files", dest="files", action="store_false", help=no_files)
    parser.add_argument("--linker", choices=("cc", "zig"), help="the system's C compiler, for this machine, or ziglang")
    _add_c_flags(parser)
    add_machine(parser)
    add_on_missing(parser)


def _add_kinds(parser: ArgumentParser) -> None:
    kinds = parser.add_mutually_exclusive_group()
    for kind, description in {
        "executable": "link an executable (the default for other names)",
        "shared": "link a shared library (the default for .so, .dll, .dylib)",
        "object": "write an object file (the default for .o, .obj)",
    }.items():
        option = "--exe" if kind == "executable" else f"--{kind}"
        kinds.add_argument(option, dest="kind", action="store_const", const=kind, help=description)


def _add_targets(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        metavar="REQUEST",
        action="append",
        default=[],
        help="what to compile for (default: native); give several, best first, to select one at load time",
    )
    parser.add_argument(
        "--triple", metavar="TRIPLE", help="another architecture or system (default --target: its baseline)"
    )
    parser.add_argument("--dispatch", choices=("ifunc", "pointer"), help="how the code selects among several targets")
    parser.add_argument("--runtime-override", action="store_true", help="honour CPUFEAT_DISABLE at load time")


def _add_c_flags(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("C", "C is compiled by the clang of ziglang: pip install 'cpufeat[c]'")
    for option, prefix, metavar, description in (
        ("-I", "-I", "DIR", "add a directory to the header search path"),
        ("-D", "-D", "NAME", "define a macro"),
        ("--cflag", "", "FLAG", "pass a flag to clang: --cflag=-ffast-math"),
    ):
        flag = f"{prefix}{{}}".format
        group.add_argument(option, metavar=metavar, dest="cflags", action="append", type=flag, help=description)


def run(options: Namespace) -> int:
    """Compile the input, link it and write the output."""
    signal.signal(signal.SIGTERM, _exit_cleanly)
    file, kind = path_of(options.file), _kind(options)
    _check(options, file, kind)
    targets = _targets(options)
    _check_input(file)
    module: object = Path(file)
    if file.endswith(".c"):
        module = aot.from_c(file, options.triple or detect().triple, options.cflags or ())
    keywords = {"opt": options.opt, "on_missing": options.on_missing or "fallback", "guard": _GUARDS[options.guard]}
    artifact = aot.compile(module, **targets, **keywords, files=options.files)
    _write(artifact, options, kind)
    return OK


def _exit_cleanly(number: int, _: object) -> None:
    """Exit with the status of SIGTERM, by an exception, so that temporary files are removed and the linker is ended."""
    sys.exit(128 + number)


def _kind(options: Namespace) -> Kind:
    """Return the requested kind of output, or the kind that the name of the output implies."""
    if options.kind:
        return options.kind  # type: ignore[no-any-return]
    if options.output == _STDOUT:
        return "object"
    name = Path(options.output).name
    if _INPUTS.search(name):
        raise CpufeatError(f"cannot infer the output kind from {options.output}: pass --exe, --shared or --object")
    return _KINDS.get(re.sub(r"(\.\d+)*$", "", name).rpartition(".")[2], "executable")


def _check(options: Namespace, file: str, kind: Kind) -> None:
    """Raise CpufeatError for options that exclude one another."""
    if not options.output:
        raise CpufeatError("OUT is empty; is a shell variable unset?")
    if Path(options.output).exists() and Path(file).exists() and Path(file).samefile(options.output):
        raise CpufeatError(f"{options.output}: the output would overwrite the input")
    if kind == "object" and (options.linker or options.rest):
        raise CpufeatError("an object is not linked: remove --linker and the arguments after --")
    if kind != "object" and options.output == _STDOUT:
        raise CpufeatError("only an object can be written to standard output")
    if not options.files and file.endswith(".c"):
        raise CpufeatError("--no-files is for LLVM IR: C reads files by #include")
    if options.cflags and not file.endswith(".c"):
        raise CpufeatError("-I, -D and --cflag require a C file (.c)")
    if (options.dispatch or options.runtime_override) and len(options.target) < 2:
        raise CpufeatError("--dispatch and --runtime-override require several --target")


def _check_input(file: str) -> None:
    """Raise CpufeatError for an unreadable file or C++."""
    path = Path(file)
    if path.suffix in _CXX:
        raise CpufeatError(f"{file}: C++ is not supported: pass C (.c), or the output of clang++ -S -emit-llvm (.ll)")
    try:
        files.opened(path).close()
    except (OSError, ValueError) as error:
        raise CpufeatError(files.failure(file, error)) from None


def _targets(options: Namespace) -> dict[str, Any]:
    """Return the keyword arguments of ``aot.compile`` that name the targets."""
    if options.triple is None and len(options.target) < 2:
        return {"target": next(iter(options.target), None)}
    targets = [_target(request, options) for request in options.target or [""]]
    if len(targets) == 1:
        return {"target": targets[0]}
    return {"targets": targets, "dispatch": options.dispatch, "runtime_override": options.runtime_override}


def _target(request: str, options: Namespace) -> Target:
    """Return the target of a request in a list, or for ``--triple``; only a native request depends on this machine."""
    if options.triple is None:
        host = detect()
        if parse(request, host.arch).base == NATIVE:
            return resolve(request, host=host, on_missing=options.on_missing or "fallback").target
        return Target.parse(request, host.triple)
    return Target.parse(request or baseline(of_triple(options.triple)), options.triple)


def _write(artifact: Artifact, options: Namespace, kind: Kind) -> None:
    if options.output == _STDOUT:
        sys.stdout.buffer.write(artifact.object)
    else:
        artifact.link(options.output, kind=kind, linker=options.linker, arguments=options.rest)
