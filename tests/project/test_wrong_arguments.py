"""Whatever a caller gets wrong is told in words: no argument of a public function fails somewhere inside.

A wrong type is a TypeError that names the argument and says what it takes, a wrong value an error of cpufeat's, and a
file that cannot be read an OSError, such as FileNotFoundError.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from helpers import travellers

import cpufeat
from cpufeat import aot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WRONG_TYPES: dict[str, object] = {
    "int": 5,
    "float": 0.5,
    "bytes": b"\0",
    "str": "nonsense",
    "list": [5],
    "dict": {5: 5},
    "None": None,
    "object": object(),
}
NONSENSE: dict[str, tuple[object, ...]] = {
    "str": ("", "\0", "nonsense", "é\ud800", "-", "+", "a" * 5000, "../" * 9),
    "bytes": (b"", b"\0", b"\x7fELF", b"BC\xc0\xde"),
    "int": (-1, 0, 10**30),
    "float": (-1.0, 0.0, float("nan"), float("-inf")),
    "Sequence": ((), ("",), ("\0",), "nonsense"),
    "Iterable": ((), ("",), ("\0",)),
    **dict.fromkeys(("Guard", "Isolation", "Kind", "Linker", "Mechanism", "OnMissing"), ("", "nonsense")),
}
"""Values of the right type, by a word of its annotation."""
MADE_BY_CPUFEAT = {
    "Check",
    "Core",
    "Decision",
    "Run",
    "Withheld",
    "aot.Source",
    "Host",
    "Resolution",
    "Explanation",
    "Audit",
    "Feature",
    "aot.Artifact",
    "aot.Variant",
    "aot.Library",
}
"""Classes whose instances other functions return: their constructors are not called by users."""
INHERITED = {"replace"}
ITEMS = {
    "names": "feature",
    "name": "feature",
    "removed": "feature",
    "options": "option",
    "kinds": "kind",
    "artifacts": "artifact",
}
"""What messages call one item of an argument, or what it names."""


class Call(NamedTuple):
    """A public function, and arguments that it takes."""

    function: Callable[..., Any]
    arguments: dict[str, Any]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Call]:
    folder = tmp_path_factory.mktemp("wrong")
    values: dict[str, Any] = {type(value).__name__: value for value in travellers.values()}
    target = cpufeat.Target.parse("x86-64-v3")
    recording, host, artifact, audit = (values[name] for name in ("Recording", "Host", "Artifact", "Audit"))
    dump, binary, source = folder / "machine.json", folder / "kernel.o", folder / "kernel.c"
    dump.write_text(recording.to_json())
    artifact.save(binary)
    source.write_text("int f(void) { return 1; }\n")
    linked = {"output": folder / "linked.o", "kind": "object", "linker": None, "arguments": ()}
    return {
        "target_for_host": Call(cpufeat.target_for_host, {"request": None, "on_missing": "fallback"}),
        "resolve": Call(cpufeat.resolve, {"request": "x86-64", "host": host, "on_missing": "fallback"}),
        "detect": Call(cpufeat.detect, {"machine": recording}),
        "audit": Call(cpufeat.audit, {"file": binary, "progress": None}),
        "check": Call(cpufeat.check, {"file": binary, "on": host, "libraries": False, "root": None, "progress": None}),
        "verify": Call(
            cpufeat.verify, {"file": binary, "cpus": None, "arguments": (), "time_limit": 5.0, "emulated_only": False}
        ),
        "explain": Call(
            cpufeat.explain, {"request": "x86-64", "machine": recording, "on_missing": "fallback", "origin": "name"}
        ),
        "load_machine": Call(cpufeat.load_machine, {"path": dump}),
        "Target": Call(
            cpufeat.Target, {"triple": target.triple, "cpu": "haswell", "features": target.features, "options": ()}
        ),
        "Target.parse": Call(cpufeat.Target.parse, {"request": "x86-64", "triple": target.triple}),
        "Target.of": Call(cpufeat.Target.of, {"host": host}),
        "Target.from_json": Call(cpufeat.Target.from_json, {"text": target.to_json()}),
        "Target.llvm_features": Call(target.llvm_features, {"version": None}),
        "Target.llvm_cpu": Call(target.llvm_cpu, {"version": None}),
        "Target.missing_on": Call(target.missing_on, {"host": host}),
        "Target.runs_on": Call(target.runs_on, {"host": host}),
        "Target.create_target_machine": Call(
            target.create_target_machine,
            {"opt": 2, "reloc": "pic", "codemodel": "small", "printmc": False, "jit": False, "abiname": ""},
        ),
        "FeatureSet": Call(cpufeat.FeatureSet, {"arch": "x86_64", "names": ["avx"]}),
        "FeatureSet.without": Call(target.features.without, {"removed": ["avx"]}),
        "FeatureSet.of_kind": Call(target.features.of_kind, {"kinds": "isa"}),
        "Feature.flags": Call(values["Feature"].flags, {"system": "kernel"}),
        "Host.why_missing": Call(host.why_missing, {"name": "avx"}),
        "Host.missing": Call(host.missing, {"features": target.features}),
        "Recording": Call(cpufeat.Recording, dict(vars(recording))),
        "Recording.from_json": Call(cpufeat.Recording.from_json, {"text": recording.to_json(), "path": "name"}),
        "Audit.beyond": Call(audit.beyond, {"features": target.features}),
        "Audit.reached_unknown": Call(audit.reached_unknown, {"arch": "x86_64"}),
        "aot.compile": Call(
            aot.compile,
            {
                "module": travellers.IR,
                "target": target,
                "targets": None,
                "dispatch": None,
                "runtime_override": False,
                "guard": True,
                "opt": 0,
                "on_missing": "fallback",
                "files": True,
                "isolation": "process",
                "time_limit": 60.0,
                "memory_limit": None,
            },
        ),
        "aot.link": Call(aot.link, {"artifacts": artifact, **linked, "time_limit": 60.0}),
        "aot.from_c": Call(aot.from_c, {"file": source, "triple": target.triple, "arguments": (), "time_limit": 60.0}),
        "aot.Artifact.open": Call(aot.Artifact.open, {"file": binary}),
        "aot.Artifact.all_in": Call(aot.Artifact.all_in, {"content": artifact.object}),
        "aot.Artifact.finished": Call(artifact.finished, {"isa_level": ""}),
        "aot.Artifact.save": Call(artifact.save, {"path": folder / "saved.o"}),
        "aot.Artifact.link": Call(artifact.link, linked),
        "aot.Artifact.load": Call(artifact.load, {"host": host}),
        "aot.Artifact.selected_on": Call(artifact.selected_on, {"host": host}),
    }


def public_callables() -> Iterator[str]:
    """Every public function, constructor and method that takes an argument, by name."""
    for prefix, package in (("", cpufeat), ("aot.", aot)):
        for name in package._HOME:
            public = getattr(package, name)
            if inspect.isfunction(public):
                yield prefix + name
            elif isinstance(public, type) and not issubclass(public, (BaseException, cpufeat.Machine)):
                yield from (prefix + name for _ in [1] if prefix + name not in MADE_BY_CPUFEAT)
                yield from methods(prefix + name, public)
    yield from ("Recording", *methods("Recording", cpufeat.Recording))


def methods(name: str, public: type) -> Iterator[str]:
    for method, function in inspect.getmembers(public, callable):
        own = method in vars(public) and method[0] != "_" and method not in vars(cpufeat.Machine)
        if own and method not in INHERITED and set(inspect.signature(function).parameters) - {"self"}:
            yield f"{name}.{method}"


def annotation(call: Call, argument: str) -> str:
    if call.function is cpufeat.Recording:
        return str(cpufeat.Recording.__annotations__[argument])
    return str(inspect.signature(call.function).parameters[argument].annotation)


def made(call: Call, argument: str, value: object) -> object:
    arguments = {**call.arguments, argument: value}
    if "kinds" in arguments:
        return call.function(*arguments.values())
    returned = call.function(**arguments)
    return list(returned) if inspect.isgenerator(returned) else returned


def test_every_public_callable_is_called(calls: dict[str, Call]) -> None:
    assert sorted(public_callables()) == sorted(calls)
    for name, call in calls.items():
        if name not in ("verify",):
            for argument in call.arguments:
                made(call, argument, call.arguments[argument])
            expected = set(inspect.signature(call.function).parameters) if name != "Recording" else set(call.arguments)
            assert set(call.arguments) == expected, name


READ = ("aot.Artifact.open", "aot.compile", "aot.from_c", "audit", "check", "load_machine", "verify")
"""The functions that read a file whose path is their first argument."""


@pytest.mark.parametrize("name", READ)
def test_a_missing_file_is_the_error_of_python(name: str, calls: dict[str, Call], tmp_path: Path) -> None:
    argument, *_ = calls[name].arguments
    with pytest.raises(FileNotFoundError, match="absent"):
        made(calls[name], argument, tmp_path / "absent")


def test_every_function_that_takes_a_path_is_tried_without_the_file(calls: dict[str, Call]) -> None:
    """But for those that write to a path, or only name it in messages; ``aot.compile`` takes any object."""
    takes = {
        name for name, call in calls.items() for argument in call.arguments if "Path" in annotation(call, argument)
    }
    assert takes - {"aot.link", "aot.Artifact.link", "aot.Artifact.save"} | {"aot.compile"} == set(READ)


def is_permitted(kind: str, text: str) -> bool:
    words = set(re.findall(r"\w+", text))
    return bool(words & {kind, "object", "Any"}) or (kind == "int" and bool(words & {"float", "bool"}))


def in_words(error: TypeError, argument: str) -> bool:
    """Whether the message names the argument, or one item of it, and says what that must be."""
    return re.match(rf"({argument}|an? {ITEMS.get(argument, argument)}) must be .+, not .+", str(error)) is not None


def test_wrong_types_are_told_in_words(calls: dict[str, Call]) -> None:
    faults = []
    for name, call in calls.items():
        for argument in call.arguments:
            for kind, value in WRONG_TYPES.items():
                if is_permitted(kind, annotation(call, argument)):
                    continue
                what = f"{name}({argument}={value!r})"
                try:
                    made(call, argument, value)
                    faults.append(f"{what} is accepted")
                except cpufeat.CpufeatError:
                    pass
                except TypeError as error:
                    if not in_words(error, argument):
                        faults.append(f"{what}: {error!r}")
                except Exception as error:
                    faults.append(f"{what}: {error!r}")
    assert faults == [], "\n".join(["", *faults])


def documentation_of(call: Call, calls: dict[str, Call]) -> str:
    """The docstrings of a function or class, of its constructor, and of the functions that they refer to."""
    own = f"{call.function.__doc__}\n{call.function.__init__.__doc__}"
    names = re.findall(r":(?:func|meth):`~?(?:\w+\.)*?(\w+)`", own)
    others = [other for name, other in calls.items() if name.rpartition(".")[2] in names and other is not call]
    return "\n".join([own, *(str(other.function.__doc__) for other in others)])


def test_wrong_values_are_errors_of_cpufeat_that_the_docstring_names(
    calls: dict[str, Call], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    faults, refused = [], 0
    for name, call in calls.items():
        documentation = documentation_of(call, calls)
        for argument in call.arguments:
            words = re.findall(r"\w+", annotation(call, argument))
            for value in [value for kind in NONSENSE if kind in words for value in NONSENSE[kind]]:
                try:
                    made(call, argument, value)
                except (cpufeat.CpufeatError, cpufeat.CpufeatWarning, OSError) as error:
                    refused += 1
                    kind = OSError if isinstance(error, OSError) else type(error)
                    if kind.__name__ not in documentation:
                        faults.append(f"{name}({argument}={value!r}): the docstring does not name {error!r}")
                except TypeError as error:
                    if not in_words(error, argument):
                        faults.append(f"{name}({argument}={value!r}): {error!r}")
                except Exception as error:
                    faults.append(f"{name}({argument}={value!r}): {error!r}")
    assert faults == [], "\n".join(["", *faults])
    assert refused > 100
