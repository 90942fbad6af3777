"""The command line as a user sees it: whole processes with their output, errors and exit status."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command_line import ENVIRONMENT, ESCAPE, HASWELL, NEHALEM, cpufeat, on_terminal
from helpers.corpora import needs_corpora
from helpers.paths import MACHINES, PROJECT, SHARED

from cpufeat import Recording, Target, aot, detect
from cpufeat.cli import main
from cpufeat.detection.dumps import load

KEYS = {"path", "format", "arch", "vendor", "family", "model", "stepping", "brand", "cpu", "cores", "level"}
KEYS |= {"features", "withheld", "error"}


# --- explain


def test_explain_is_plain_when_piped() -> None:
    done = cpufeat("--explain")
    assert (done.returncode, done.stderr) == (0, "")
    assert ESCAPE not in done.stdout
    assert "Compile for" in done.stdout
    assert done.stdout == cpufeat("explain").stdout


def test_explain_is_in_colour_on_a_terminal_with_the_same_text() -> None:
    pytest.importorskip("rich")
    shown = on_terminal("explain", "--machine", HASWELL)
    assert ESCAPE in shown
    unstyled = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()]
    assert unstyled == cpufeat("explain", "--machine", HASWELL).stdout.splitlines()


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colour_gets_none(variables: dict[str, str]) -> None:
    assert ESCAPE not in on_terminal("explain", "--machine", HASWELL, variables=variables)


def test_force_color_colours_piped_output() -> None:
    pytest.importorskip("rich")
    assert ESCAPE in cpufeat("explain", FORCE_COLOR="1").stdout


def test_explain_works_without_rich() -> None:
    without = "import sys; sys.modules['rich'] = None; from cpufeat.cli import main; sys.exit(main())"
    done = cpufeat("explain", code=("-c", without), FORCE_COLOR="1")
    assert (done.returncode, done.stdout) == (0, cpufeat("explain").stdout)


def test_explain_json_has_the_features_the_cpu_and_the_file_of_the_machine() -> None:
    facts = json.loads(cpufeat("explain", "--json", "--machine", HASWELL, FORCE_COLOR="1").stdout)
    host = detect(load(HASWELL)[1])
    assert set(facts["features"]) == host.features.names
    assert (facts["cpu"], facts["origin"]) == ("haswell", HASWELL)


def test_explain_shows_what_a_request_lost_without_a_warning() -> None:
    done = cpufeat("explain", "haswell", "--machine", NEHALEM)
    assert (done.returncode, done.stderr) == (0, "")
    assert "haswell: granted, less avx, xsave and" in done.stdout


def test_environment_variables_set_the_machine_and_the_request() -> None:
    named = cpufeat("explain", "x86-64-v2", "--machine", HASWELL)
    assert named.stdout == cpufeat("explain", "x86-64-v2", CPUFEAT_MACHINE=HASWELL).stdout
    assert "CPUFEAT_TARGET" in cpufeat("explain", CPUFEAT_TARGET="x86-64-v2").stdout


def test_the_option_machine_leaves_the_environment_of_the_caller_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for before in (None, HASWELL):
        if before is not None:
            monkeypatch.setenv("CPUFEAT_MACHINE", before)
        assert main(["target", "--print", "cpu", "--machine", NEHALEM]) == 0
        assert capsys.readouterr().out == "nehalem\n"
        assert os.environ.get("CPUFEAT_MACHINE") == before


def test_under_an_emulator_the_kernel_is_reported_to_describe_another_cpu(qemu: str) -> None:
    command = [qemu, "-cpu", "Penryn", sys.executable, "-m", "cpufeat", "explain"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT, timeout=120)
    assert "penryn" in done.stdout
    assert done.stdout.count("describes another CPU") == 1


# --- target


def test_target_prints_lines_that_a_shell_can_evaluate() -> None:
    done = cpufeat("target", "x86-64-v2", "--machine", HASWELL)
    answer = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (0, "")
    assert answer["cpu"] == answer["level"] == "x86-64-v2"
    assert answer["triple"] == "x86_64-unknown-linux-gnu"
    assert {"+sse4.2", "-avx"} <= set(answer["features"].split(","))
    for key, value in answer.items():
        assert cpufeat("target", "x86-64-v2", "--machine", HASWELL, "--print", key).stdout == f"{value}\n"


def test_target_uses_the_names_and_features_of_the_given_llvm() -> None:
    old, new = (json.loads(cpufeat("target", "znver5", "--json", "--llvm", version).stdout) for version in ("14", "22"))
    assert (old["cpu"], new["cpu"]) == ("znver3", "znver5")
    assert "avx10.1" not in old["features"]
    assert "avx10.1" in new["features"]


def test_target_json_has_the_target_and_the_decisions() -> None:
    done = cpufeat("target", "haswell", "--json", "--machine", NEHALEM)
    answer = json.loads(done.stdout)
    target = Target(answer["triple"], answer["cpu"], detect(load(NEHALEM)[1]).features)
    assert target.llvm_features(answer["llvm"]) == answer["features"]
    assert "avx2" in {one["subject"] for one in answer["decisions"] if one["kind"] == "dropped"}
    assert done.stderr.startswith("cpufeat: warning: haswell: left out")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "cpu", "stands_for"),
    [
        (("hip12",), "tsv110", "hip12"),
        (("znver6", "--triple", "x86_64-linux-gnu"), "znver5", "znver6"),
        (("znver5", "--triple", "x86_64-linux-gnu", "--llvm", "14"), "znver3", "znver5"),
        (("znver5", "--triple", "x86_64-linux-gnu"), "znver5", ""),
        (("x86-64-v3", "--triple", "x86_64-linux-gnu"), "x86-64-v3", ""),
    ],
)
def test_a_cpu_that_an_llvm_does_not_have_has_a_stand_in_that_is_called_one(
    arguments: tuple[str, ...], cpu: str, stands_for: str
) -> None:
    answer = json.loads(cpufeat("target", *arguments, "--json").stdout)
    assert answer["cpu"] == cpu
    named = [made for made in answer["decisions"] if made["kind"] == "stand-in"]
    assert [made["subject"] for made in named] == [cpu] * bool(stands_for)
    assert all(f"stands in for {stands_for}," in made["reason"] for made in named)


def test_a_missing_feature_is_an_error_on_request() -> None:
    done = cpufeat("target", "haswell", "--machine", NEHALEM, "--on-missing", "error")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cpufeat: haswell needs")
    assert "avx2: not reported" in done.stderr


def test_a_verb_loads_no_other_verb_and_no_optional_library() -> None:
    code = "import sys; from cpufeat.cli import main; main(); print(*sys.modules, file=sys.stderr)"
    for arguments in (["target"], ["explain"], ["identify", HASWELL], ["record", "-"]):
        loaded = set(cpufeat(*arguments, code=("-c", code)).stderr.split())
        assert "cpufeat.detection.host" in loaded
        loaded_verbs = {name for name in loaded if name.startswith("cpufeat.cli.verbs.")}
        assert loaded_verbs == {f"cpufeat.cli.verbs.{arguments[0]}"}
        assert loaded.isdisjoint({"llvmlite", "archspec", "cpuinfo", "rich"})


def test_a_target_for_a_triple_is_that_of_the_library_and_reads_no_machine() -> None:
    for arguments, parsed in (
        (("neoverse-n1,-crc", "--triple", "arm64-linux-musl"), Target.parse("neoverse-n1,-crc", "arm64-linux-musl")),
        (("--triple", "riscv64-linux-gnu"), Target.parse("rv64gc", "riscv64-linux-gnu")),
    ):
        done = cpufeat("target", *arguments, "--json", "--llvm", "14", CPUFEAT_MACHINE="/absent", CPUFEAT_TARGET="zen")
        answer = json.loads(done.stdout)
        assert (done.returncode, done.stderr) == (0, "")
        assert answer["triple"] == parsed.triple
        assert (answer["cpu"], answer["features"]) == (parsed.llvm_cpu(14), parsed.llvm_features(14))
        assert answer["names"] == list(parsed.features)


@pytest.mark.parametrize("machine", [(), ("--machine", HASWELL)])
def test_target_of_a_cpu_of_another_architecture_is_that_of_its_linux(machine: tuple[str, ...]) -> None:
    done = cpufeat("target", "cortex-a72,-crc", "--json", *machine)
    answer = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert answer["triple"] == "aarch64-unknown-linux-gnu"
    assert answer["names"] == list(Target.parse("cortex-a72,-crc", "aarch64").features)
    assert [decision["subject"] for decision in answer["decisions"]] == ["aes", "sha2"], "an option of the core"
    asks = cpufeat("target", "generic", *machine)
    assert (asks.returncode, asks.stdout) == (2, "")
    assert "generic is a name of several architectures" in asks.stderr


def test_explain_for_a_triple_shows_the_target_of_the_library_and_what_the_request_lost() -> None:
    arguments = ("explain", "haswell,-avx", "--triple", "x86_64-windows-gnu")
    page = cpufeat(*arguments, CPUFEAT_MACHINE="/absent")
    words = set(page.stdout.split())
    assert (page.returncode, page.stderr) == (0, "")
    target = Target.parse("haswell,-avx", "x86_64-windows-gnu")
    assert {*target.features, target.triple, "haswell", "removed", "avx2", "fma"} <= words
    refused = cpufeat(*arguments, "--json")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "use cpufeat target --triple ... --json" in refused.stderr


@pytest.mark.parametrize("verb", ["target", "explain"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["haswell"], "unknown aarch64 CPU 'haswell'"),
        (["native"], "'native' is relative to a host"),
        (["+sve"], "'+sve' is relative to a host"),
        (["--machine", HASWELL], "not allowed with argument --triple"),
        (["--on-missing", "error"], "--on-missing has no effect on a target for another machine"),
        (["--triple", ""], "TRIPLE is empty"),
        (["--triple", "pdp11-unix"], "unknown architecture 'pdp11'"),
    ],
)
def test_what_contradicts_a_triple_is_bad_usage(verb: str, arguments: list[str], says: str) -> None:
    done = cpufeat(verb, "--triple", "aarch64-linux-gnu", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


# --- identify


def test_identify_keeps_the_order_and_continues_after_unreadable_files(tmp_path: Path) -> None:
    bad = {
        "empty": b"",
        "binary": bytes(range(256)),
        "text": b"hello\n",
        "cut.cpuid": b"CPU 0:\n   0x00000000 0x00: eax=0x0000\n",
        "cut.json": (MACHINES / "qemu-haswell.json").read_bytes()[:1000],
        "void.json": b'{"cpufeat": 1}',
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 36)
    paths = [HASWELL]
    for name in (*bad, "huge", "absent", "."):
        paths += [str(tmp_path / name), NEHALEM]
    done = cpufeat("identify", "--json", *paths)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (2, "")
    assert [answer["path"] for answer in answers] == paths
    assert all(answer.keys() >= KEYS for answer in answers)
    assert [bool(answer["error"]) for answer in answers] == [False] + [True, False] * (len(paths) // 2)
    assert {answer["cpu"] for answer in answers[1::2]} == {None}
    assert {answer["cpu"] for answer in answers[2::2]} == {"nehalem"}
    plain = cpufeat("identify", *paths)
    assert plain.returncode == 2
    assert [": error: " in line for line in plain.stdout.splitlines()] == [bool(answer["error"]) for answer in answers]


def test_identify_reports_features_and_reasons() -> None:
    path = str(MACHINES / "qemu-haswell-without-avx.json")
    done = cpufeat("identify", "--json", path)
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert answer.keys() >= KEYS
    assert answer["format"] == "recording"
    assert answer["cores"] == [{"cpu": "haswell", "count": answer["cores"][0]["count"], "stands_for": ""}]
    assert answer["features"] == list(detect(load(path)[1]).features)
    assert answer["withheld"]["avx"] == "not reported"
    assert answer["withheld"]["fma"] == "OS state not enabled"


def test_identify_reads_standard_input() -> None:
    answer = json.loads(cpufeat("identify", "--json", "-", stdin=Path(NEHALEM).read_bytes()).stdout)
    assert (answer["path"], answer["cpu"]) == ("-", "nehalem")


def test_a_file_name_of_any_bytes_prints_in_one_line_and_round_trips_in_json(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff \x1b[31m\n.json"
    shutil.copy(os.fsencode(HASWELL), name)
    plain, answer = cpufeat("identify", name), json.loads(cpufeat("identify", "--json", name).stdout)
    assert os.fsencode(answer["path"]) == name
    assert plain.stdout.count("\n") == 1
    assert "\x1b" not in plain.stdout


@needs_corpora
def test_most_collected_machines_are_identified_correctly() -> None:
    """2,203 files in six calls: a few seconds, and nearly every x86 machine is named right."""
    command = [sys.executable, str(SHARED / "score_identify.py"), "--show", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT, timeout=60, cwd=PROJECT)
    x86 = [line for line in done.stdout.splitlines() if re.match(r"\S+\.(x86_64|i686) ", line)]
    right, wrong, unparsed = (
        sum(int(number) for line in x86 for number in re.findall(rf"\b{grade}=(\d+)", line))
        for grade in ("right", "wrong", "unparsed")
    )
    assert right > 1600
    assert wrong <= right // 200
    assert unparsed == 0


# --- record


def test_a_recording_replays_as_the_same_host(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    assert cpufeat("record", str(path)).returncode == 0
    assert detect(load(str(path))[1]) == detect()
    assert [file.name for file in tmp_path.iterdir()] == ["machine.json"]
    replayed, live = cpufeat("explain", "--json", "--machine", str(path)), cpufeat("explain", "--json")
    assert {**json.loads(replayed.stdout), "origin": ""} == json.loads(live.stdout)


def test_record_overwrites_a_file_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text("precious")
    refused = cpufeat("record", str(path))
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert path.read_text() == "precious"
    assert cpufeat("record", str(path), "--force").returncode == 0
    assert detect(load(str(path))[1]) == detect()


@pytest.mark.parametrize("where", ["", "absent/machine.json"])
def test_record_to_an_unwritable_path_is_an_error(where: str, tmp_path: Path) -> None:
    done = cpufeat("record", str(tmp_path / where))
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr


def test_record_turns_a_dump_into_a_recording(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_bytes(Path("/proc/cpuinfo").read_bytes())
    written = cpufeat("record", "-", "--machine", str(tmp_path / "cpuinfo")).stdout
    assert detect(Recording.from_json(written)) == detect(load(str(tmp_path / "cpuinfo"))[1])


def test_a_recording_made_on_an_emulated_cpu_replays_here(qemu: str, tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    said = []
    for arguments in (["record", str(path)], ["explain", "--json"]):
        command = [qemu, "-cpu", "EPYC-Rome", sys.executable, "-m", "cpufeat", *arguments]
        said.append(subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True, timeout=120).stdout)
    here = cpufeat("explain", "--json", "--machine", str(path))
    assert {**json.loads(here.stdout), "origin": ""} == json.loads(said[1])


# --- compile


SCALE = """
define <8 x float> @scale(<8 x float> %a, <8 x float> %b) {
  %c = fmul <8 x float> %a, %b
  ret <8 x float> %c
}
"""


def test_compile_writes_an_artifact_for_the_target(tmp_path: Path) -> None:
    (tmp_path / "scale.ll").write_text(SCALE)
    done = cpufeat("compile", str(tmp_path / "scale.ll"), "-o", str(tmp_path / "scale.o"), "--target", "x86-64")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert aot.Artifact.open(tmp_path / "scale.o").target.level == "x86-64"


def test_compile_for_a_recorded_machine_warns_about_what_it_left_out(tmp_path: Path) -> None:
    (tmp_path / "scale").write_text(SCALE)  # a FILE is a file, whatever its name
    arguments = (str(tmp_path / "scale"), "-o", str(tmp_path / "scale.o"), "--target", "haswell", "--machine", NEHALEM)
    done = cpufeat("compile", *arguments)
    assert done.returncode == 0
    assert done.stderr.startswith("cpufeat: warning: haswell: left out")
    artifact = aot.Artifact.open(tmp_path / "scale.o")
    assert artifact.target.features <= detect(load(NEHALEM)[1]).features
    assert cpufeat("compile", *arguments, "--on-missing", "error").returncode == 1


@pytest.mark.parametrize("content", [b"", b"\x7fELF\0\0", b"define nonsense\n", None])
def test_compile_reports_bad_input_and_accepts_an_empty_module(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "bad.ll").write_bytes(content)
    done = cpufeat("compile", str(tmp_path / "bad.ll"), "-o", str(tmp_path / "bad.o"))
    assert done.returncode == {b"": 0, None: 2}.get(content, 1)
    assert ("bad.ll" in done.stderr) is (content != b"")


# --- audit


AARCH64 = b"processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd08\n\n"


def test_an_audit_compares_with_a_recorded_machine_only_where_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "scale.ll").write_text(SCALE)
    aot.compile(tmp_path / "scale.ll", "x86-64-v3").save(tmp_path / "scale.o")
    (tmp_path / "cpuinfo").write_bytes(AARCH64)
    audit = ("audit", str(tmp_path / "scale.o"))
    less, enough, other = (cpufeat(*audit, "--machine", file) for file in (NEHALEM, HASWELL, str(tmp_path / "cpuinfo")))
    assert (less.returncode, enough.returncode, other.returncode) == (1, 0, 2)
    assert "Needs more than Nehalem (nehalem), in 1 function." in less.stdout
    assert "Needs no more than Haswell (haswell)." in " ".join(enough.stdout.split())
    assert "has no code for aarch64" in other.stderr
    assert cpufeat(*audit, CPUFEAT_MACHINE=NEHALEM).returncode == 0
    assert cpufeat(*audit, "--machine", NEHALEM, "--max", "haswell").returncode == 2


def test_verify_takes_no_machine_since_a_recording_cannot_run_a_program() -> None:
    done = cpufeat("verify", "x", "--machine", NEHALEM)
    assert (done.returncode, done.stderr) == (2, "cpufeat: unknown option '--machine' (see cpufeat help verify)\n")


# --- errors and interruptions


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bogus"], "unknown verb 'bogus' (see cpufeat help)"),
        (["identify"], "FILE"),
        (["compile", "x.ll"], "-o/--output"),
        (["explain", "haswel"], "did you mean haswell"),
        (["explain", "native,+avx2,zen"], "'zen' stands where"),
        (["target", "--llvm", "new"], "expected a version of LLVM, 14 or newer"),
        (["target", "--machine", "/absent"], "/absent: No such file"),
        (["target", "--machine", "/"], "/: Is a directory"),
        (["target", "--machine", "/dev/zero"], "/dev/zero: Is a device, not a regular file"),
        (["target", "--machine", ""], "FILE is empty"),
        (["target", "--machine", __file__], f"{__file__}: not in a known format"),
    ],
)
def test_bad_usage_and_unreadable_input_are_named_on_standard_error(arguments: list[str], says: str) -> None:
    done = cpufeat(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"), [("CPUFEAT_TARGET", "nosuch"), ("CPUFEAT_DISABLE", "nosuch"), ("CPUFEAT_MACHINE", "/nosuch")]
)
def test_a_bad_environment_variable_is_an_error(variable: str, value: str) -> None:
    done = cpufeat("explain", **{variable: value})  # type: ignore[arg-type] # a variable, not stdin
    assert done.returncode == 2
    assert "nosuch" in done.stderr
    assert variable in done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "cpufeat", "identify", "--json", *[HASWELL] * 500]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (128 + signal.SIGPIPE, b"")


def test_an_interrupt_prints_nothing() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(write_end, bytes(1 << 16)):
            pass
    os.set_blocking(write_end, True)
    command = [sys.executable, "-m", "cpufeat", "identify", "-"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born ignoring it
    captured = subprocess.PIPE
    with subprocess.Popen(command, stdin=read_end, stdout=captured, stderr=captured, env=ENVIRONMENT) as process:
        signal.signal(signal.SIGINT, before)
        os.close(read_end)
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            pipe.write(b"\0")  # waits until the full pipe is being read
            process.send_signal(signal.SIGINT)
            try:
                output = process.communicate(timeout=60)
            finally:
                process.kill()
    assert (process.returncode, *output) == (128 + signal.SIGINT, b"", b"")


def test_an_error_leaves_the_standard_output_of_the_caller_open(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "/nonexistent"]) == 2
    os.write(sys.stdout.fileno(), b"still here\n")
    assert capfd.readouterr().out == "still here\n"


def test_closed_or_full_output_causes_no_traceback() -> None:
    for redirection in (">&-", "2>&- >&-"):
        shell = f'exec "$0" -m cpufeat explain {redirection}'
        done = subprocess.run(["sh", "-c", shell, sys.executable], capture_output=True, check=False, env=ENVIRONMENT)  # noqa: S607
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "cpufeat", "explain"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, env=ENVIRONMENT)
    assert done.returncode == 2
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
