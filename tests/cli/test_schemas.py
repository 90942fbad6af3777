"""What ``--json`` prints is what docs/schemas says, and what docs/schemas says is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from helpers.environment import ENVIRONMENT
from helpers.paths import MACHINES, PROGRAMS, PROJECT
from helpers.requirements import tool

from cpufeat.cli.parser import VERBS, parser_of

if TYPE_CHECKING:
    from pathlib import Path

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (PROJECT / "docs" / "schemas" / "1").glob("*.json")}
PRINTS_JSON = sorted(set(SCHEMAS) - {"common"})
MACHINE = str(MACHINES / "qemu-haswell-without-avx.json")
COMMANDS = {
    "explain": [["--machine", MACHINE, "skylake-avx512"], ["--machine", str(MACHINES / "zen5-kvm.json")]],
    "target": [["--machine", MACHINE, "x86-64-v3,+prefer-256-bit"]],
    "audit": [["sum"], ["sum.o"], ["sum.a"], ["unknown.o"]],
    "check": [["sum", "--cpu", "nehalem", "--root", "."], ["sum", "--machine", MACHINE, "--no-libraries"]],
    "verify": [["sum", "--on", "Nehalem,Haswell"]],
    "identify": [[MACHINE, "no such file"]],
    "cpus": [["--arch", "x86_64"], ["--arch", "s390x"]],
    "features": [["--arch", "x86_64"], ["--arch", "riscv64"]],
}
"""The arguments of each verb, for a folder with a program, an object and an archive."""


def strict(schema: Any) -> Any:
    """Return a schema that permits no keys but those that it names: outputs may get new keys, but not by accident."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: strict(value) for key, value in schema.items()}
    is_closed = schema.get("type") == "object" and "additionalProperties" not in schema
    return {**inner, "additionalProperties": False} if is_closed else inner


def validator(verb: str) -> Any:
    resources = [referencing.Resource.from_contents(strict(schema)) for schema in SCHEMAS.values()]
    registry = referencing.Registry().with_resources([(str(resource.id()), resource) for resource in resources])
    return jsonschema.Draft202012Validator(strict(SCHEMAS[verb]), registry=registry)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, compiler: str) -> Path:
    """A folder with a program, an object and an archive that use AVX2 without a check."""
    made = tmp_path_factory.mktemp("binaries")
    source = str(PROGRAMS / "documents" / "app.c")
    subprocess.run([compiler, "-O3", "-march=haswell", "-o", made / "sum", source], check=True)
    subprocess.run([compiler, "-O3", "-march=haswell", "-c", "-o", made / "sum.o", source], check=True)
    archiver = tool("ar")
    subprocess.run([archiver, "rc", made / "sum.a", made / "sum.o"], check=True)
    unknown = made / "unknown.s"
    unknown.write_text(".globl f\n.type f, @function\nf: .byte 0x62, 0xf6, 0x7d, 0x48, 0xff, 0xc1\nret\n")
    subprocess.run([compiler, "-c", "-o", made / "unknown.o", unknown], check=True)
    return made


@pytest.fixture
def printed(folder: Path, qemu: str, verb: str) -> list[Any]:
    """What a verb prints for all of its commands."""
    texts = [
        subprocess.run(
            [sys.executable, "-m", "cpufeat", verb, *arguments, "--json"],
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        for arguments in COMMANDS[verb]
    ]
    lines = [text.splitlines() if text.startswith('{"') else [text] for text in texts]
    return [json.loads(line) for of_command in lines for line in of_command]


def test_every_verb_with_json_output_has_a_schema() -> None:
    def prints_json(verb: str) -> bool:
        options = [option for action in parser_of(verb)._actions for option in action.option_strings]
        return "--json" in options

    assert [verb for verb in sorted(VERBS) if prints_json(verb)] == PRINTS_JSON == sorted(COMMANDS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_valid_and_knows_its_version_and_name(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"] == f"urn:cpufeat:schema:1:{name}"


@pytest.mark.parametrize("verb", PRINTS_JSON)
def test_what_a_verb_prints_is_described_by_its_schema(verb: str, printed: list[Any]) -> None:
    faults = [
        f"{verb}: {fault.json_path}: {fault.message}" for item in printed for fault in validator(verb).iter_errors(item)
    ]
    assert faults == []
    described = set(SCHEMAS[verb]["properties"])
    assert described == set().union(*printed), "every key of the schema is printed"


@pytest.mark.parametrize("verb", PRINTS_JSON)
def test_an_output_that_lacks_a_key_or_has_one_of_another_type_is_found(verb: str, printed: list[Any]) -> None:
    for key in SCHEMAS[verb]["required"]:
        without = {name: value for name, value in printed[0].items() if name != key}
        assert not validator(verb).is_valid(without), f"{key} may be missing"
        assert not validator(verb).is_valid({**printed[0], key: 1.5}) or key == "seconds", f"{key} may be 1.5"
    assert not validator(verb).is_valid({**printed[0], "unheard of": 1})
