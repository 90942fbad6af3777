"""Check: its answers about programs, against what happens when qemu-user runs them on that CPU."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import assemble, build
from helpers.paths import MACHINES
from helpers.requirements import tool

from cpufeat import AuditError, Target, TargetError, UnknownNameError, aot, detect, verify
from cpufeat import check as check_with_libraries
from cpufeat.cli import main
from cpufeat.cli.options import BAD, NO, OK, UNKNOWN
from cpufeat.detection.dumps import load
from cpufeat.detection.systems import ThisMachine
from cpufeat.features import FeatureSet
from cpufeat.running.check import called
from cpufeat.running.verify import DIED, REFUSED, RIGHT
from cpufeat.support.verdict import CANNOT_TELL, MAY_NOT_RUN, RUNS, WILL_NOT_RUN

if TYPE_CHECKING:
    from pathlib import Path

    from cpufeat.aot.runtime.dispatcher import Mechanism

pytestmark = pytest.mark.skipif(ThisMachine().arch != "x86_64", reason="the programs are x86-64's")

MODELS = {"Penryn": "qemu-penryn", "Nehalem": "qemu-nehalem", "Haswell": "qemu-haswell", "max": "qemu-max"}
"""CPU models of qemu-user, and the machine that was recorded on each."""
USES = {
    "": "nop",
    "ssse3": "pabsb %xmm0, %xmm0",
    "sse4_2": "pcmpgtq %xmm0, %xmm0",
    "popcnt": "popcnt %eax, %eax",
    "avx": "vaddps %ymm0, %ymm0, %ymm0",
    "avx2": "vpabsb %ymm0, %ymm0",
    "fma": "vfmadd231ps %ymm0, %ymm0, %ymm0",
    "bmi2": "pdep %eax, %eax, %eax",
}
PROGRAM = 'int uses(void) { __asm__ volatile("INSTRUCTION"); return 0; } int main(void) { return uses(); }'
KERNEL = """
define void @kernel(<16 x i32>* %p) {
  %a = load <16 x i32>, <16 x i32>* %p
  %r = mul <16 x i32> %a, %a
  store <16 x i32> %r, <16 x i32>* %p
  ret void
}
"""


check = functools.partial(check_with_libraries, libraries=False)
"""These tests are about the file alone; ``test_libraries.py`` is about what it loads."""


def machine(name: str):
    return detect(load(str(MACHINES / f"{name}.json"))[1])


@pytest.fixture
def built(tmp_path: Path, compiler: str):
    def build(feature: str, *options: str) -> Path:
        source, program = tmp_path / "app.c", tmp_path / "app"
        source.write_text(PROGRAM.replace("INSTRUCTION", USES[feature]))
        subprocess.run([compiler, "-O1", source, "-o", program, *options], check=True)
        return program

    return build


@pytest.mark.parametrize("feature", USES)
def test_the_answer_is_what_happens_under_qemu(qemu: str, built, feature: str) -> None:
    program = built(feature)
    runs = list(verify(program, list(MODELS)))
    assert [run.cpu for run in runs] == list(MODELS)
    for run in runs:
        assert run.result in (RIGHT, DIED)
        answer = check(program, machine(MODELS[run.cpu]))
        assert answer.verdict == (RUNS if run.result == RIGHT else MAY_NOT_RUN), run.cpu
        assert [lack.feature for lack in answer.lacks] == [feature] * (run.result == DIED)


UNREFERRED = """
.globl ask
.type ask, %function
ask: mov w0, #16
bl getauxval
tbz w0, #22, 1f
bl checked
1: ret
.type checked, %function
checked: .inst 0x04a10000
ret
.type unused, %function
unused: .inst 0x04a10000
ret
.size unused, .-unused
.globl page
.type page, %function
page: adrp x0, unused
ret
"""


def test_a_function_to_which_nothing_is_seen_to_refer_may_run_and_the_reason_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.s").write_text(UNREFERRED)
    library = build(tmp_path / "library.so", "-shared", tmp_path / "text.s", triple="aarch64-linux-gnu")
    answer = check(library, "cortex-a72")
    assert answer.verdict == MAY_NOT_RUN
    assert answer.reasons == ("it has functions that use sve, to which nothing is seen to refer",)
    assert [lack.function for lack in answer.lacks] == ["unused"]


@pytest.mark.parametrize(
    ("instruction", "cpu", "lacks"),
    [
        ("aese v0.16b, v1.16b", "a64fx", ["aes"]),
        ("sha256h q0, q1, v2.4s", "a64fx", []),
        ("aese v0.16b, v1.16b", "cortex-a72", ["aes"]),
        ("aese v0.16b, v1.16b", "cortex-a72+aes", []),
        ("aese v0.16b, v1.16b", "apple-m1", []),
    ],
)
def test_a_cpu_lacks_what_llvm_alone_gives_it(instruction: str, cpu: str, lacks: list[str], tmp_path: Path) -> None:
    function = f".globl used\n.type used, %function\nused: {instruction}\nret\n.size used, .-used\n"
    (tmp_path / "text.s").write_text(f".arch armv8-a+crypto\n.text\n{function}")
    library = build(tmp_path / "library.so", "-shared", tmp_path / "text.s", triple="aarch64-linux-gnu")
    answer = check(library, cpu)
    assert [lack.feature for lack in answer.lacks] == lacks
    assert answer.verdict == (MAY_NOT_RUN if lacks else RUNS)


def test_a_missing_feature_is_named_with_its_reason_first_use_and_a_rebuild(built) -> None:
    answer = check(built("avx2"), machine("qemu-nehalem"))
    assert (answer.on, answer.verdict) == ("Nehalem (nehalem)", MAY_NOT_RUN)
    assert answer.reasons == ("it uses avx2, and the audit saw no run-time check of that",)
    (lack,) = answer.lacks
    assert (lack.feature, lack.function, lack.certain) == ("avx2", "uses", True)
    assert lack.reached
    assert lack.instruction.startswith("vpabsb ymm0")
    assert "CPUID 7.0:EBX[5]" in lack.why
    assert answer.rebuild == (("x86-64-v2",), ("x86-64-v3", "x86-64-v2"))


UNSEEN = """
#include <stdio.h>
#include <string.h>
static int kernel(int n) { __asm__ volatile("vpabsb %ymm0, %ymm0"); return n; }
int main(int count, char **words) {
    int (*run)(int) = kernel;
    if (count > 1 && strcmp(words[1], "avx2") == 0) printf("%d\\n", run(count));
    return 0;
}
"""


@pytest.mark.parametrize("options", [(), ("-static",)])
def test_a_use_without_a_visible_check_is_uncertain(
    qemu: str, tmp_path: Path, compiler: str, options: tuple[str, ...]
) -> None:
    """Here an argument of the program decides, and in glibc a flag in each lock: lock elision."""
    source, program = tmp_path / "app.c", tmp_path / "app"
    source.write_text(UNSEEN)
    subprocess.run([compiler, "-O1", source, "-o", program, *options], check=True)
    answer = check(program, machine("qemu-nehalem"))
    assert answer.verdict == MAY_NOT_RUN
    assert [run.result for run in verify(program, ["Nehalem"])] == [RIGHT]
    assert [run.result for run in verify(program, ["Nehalem"], ["avx2"])] == [DIED]


@pytest.mark.parametrize("dispatch", [None, "pointer"])
def test_a_refusal_by_a_guard_is_certain(qemu: str, tmp_path: Path, compiler: str, dispatch: Mechanism | None) -> None:
    targets = [Target.parse(request) for request in ("haswell", "sandybridge")[not dispatch :]]
    source, program = tmp_path / "app.c", tmp_path / "app"
    source.write_text(
        "void kernel(void *); int main(void) { _Alignas(64) int some[16] = {0}; kernel(some); return 0; }"
    )
    aot.compile(KERNEL, targets=targets, dispatch=dispatch).save(tmp_path / "kernel.o")
    subprocess.run([compiler, source, tmp_path / "kernel.o", "-o", program], check=True)
    for run in verify(program, ["Nehalem", "Haswell"]):
        answer = check(program, machine(MODELS[run.cpu]))
        assert run.result == (RIGHT if answer.verdict == RUNS else REFUSED)
        assert answer.verdict == (RUNS if run.cpu == "Haswell" else WILL_NOT_RUN)


def test_a_file_that_is_rebuilt_as_suggested_runs(tmp_path: Path) -> None:
    host = machine("qemu-nehalem")
    aot.compile(KERNEL, Target.parse("x86-64-v3"), guard=False).save(tmp_path / "kernel.o")
    answer = check(tmp_path / "kernel.o", host)
    assert answer.verdict == MAY_NOT_RUN
    assert answer.rebuild
    for targets in answer.rebuild:
        wanted = [Target.parse(target) for target in targets]
        artifact = aot.compile(KERNEL, targets=wanted) if wanted[1:] else aot.compile(KERNEL, wanted[0])
        artifact.save(tmp_path / "again.o")
        assert check(tmp_path / "again.o", host).verdict == RUNS


def test_without_a_machine_or_request_a_file_is_checked_on_this_machine(built) -> None:
    program = built("")
    assert check(program) == check(program, detect())
    assert check(program).on == called(detect())
    lacking = detect().features.names.isdisjoint({"avx2"})
    assert check(built("avx2")).verdict == (MAY_NOT_RUN if lacking else RUNS)


def test_a_machine_is_called_by_its_name_or_brand_and_its_cpu() -> None:
    host = machine("qemu-nehalem")
    assert called(host.replace(name="Nehalem", brand="QEMU CPU")) == "Nehalem (nehalem)"
    assert called(host.replace(name="", brand="QEMU CPU")) == "QEMU CPU (nehalem)"
    assert called(host.replace(name="", brand="")) == "nehalem"


AVX2_INSTRUCTION = ".byte 0xc4, 0xe2, 0x7d, 0x1c, 0xc0"
"""vpabsb ymm0, ymm0"""


def test_of_what_may_be_code_or_data_it_cannot_be_told_whether_it_runs(tmp_path: Path) -> None:
    text = f".type f, @function\nf: ret\n.size f, .-f\n{AVX2_INSTRUCTION}\nret\n"
    answer = check(assemble(tmp_path, text), machine("qemu-nehalem"))
    assert (answer.verdict, answer.rebuild) == (CANNOT_TELL, ())
    assert answer.reasons == ("parts of it may be data, or code that uses avx2",)
    assert [(lack.feature, lack.certain) for lack in answer.lacks] == [("avx2", False)]


def test_the_first_use_is_in_certain_code_if_there_is_any(tmp_path: Path) -> None:
    function = f".globl f\n.type f, @function\nf: {AVX2_INSTRUCTION}\nret\n.size f, .-f\n"
    before = f".type e, @function\ne: ret\n.size e, .-e\n{AVX2_INSTRUCTION}\nret\n"
    answer = check(assemble(tmp_path, before + function), machine("qemu-nehalem"))
    assert [(lack.feature, lack.function, lack.certain) for lack in answer.lacks] == [("avx2", "f", True)]
    assert answer.verdict == MAY_NOT_RUN


@pytest.mark.parametrize(
    ("name", "counts"), [("plain", True), ("kernel.x86-64-v3", False), ("__cpufeat_more", False), ("x86-64-v3", True)]
)
def test_clones_and_their_selection_are_no_lack_and_other_functions_are(
    tmp_path: Path, compiler: str, name: str, counts: bool
) -> None:
    text = (
        f'.globl "{name}"\n.type "{name}", @function\n"{name}": {AVX2_INSTRUCTION}\nret\n.size "{name}", .-"{name}"\n'
    )
    beside = assemble(tmp_path, text)
    aot.compile(KERNEL, targets=["x86-64-v3", "x86-64"]).save(tmp_path / "kernel.o")
    library = tmp_path / "both.so"
    subprocess.run([compiler, "-shared", tmp_path / "kernel.o", beside, "-o", library], check=True)
    assert [lack.function for lack in check(library, machine("qemu-nehalem")).lacks] == [name] * counts


@pytest.mark.parametrize(("request_", "verdict"), [("x86-64-v2", MAY_NOT_RUN), ("x86-64-v3", RUNS), ("haswell", RUNS)])
def test_a_request_for_a_cpu_or_level_takes_the_place_of_a_machine(built, request_: str, verdict: str) -> None:
    assert check(built("avx2"), request_).verdict == verdict
    assert check(built("avx2"), f"{request_},-avx2").verdict == MAY_NOT_RUN
    with pytest.raises(UnknownNameError, match="hasvell"):
        check(built("avx2"), "hasvell")
    with pytest.raises(TargetError, match="relative to a host"):
        check(built("avx2"), "native")


def test_a_file_with_variants_runs_if_one_of_them_does(tmp_path: Path) -> None:
    path = tmp_path / "kernel.o"
    targets = [Target.parse(level) for level in ("x86-64-v4", "x86-64-v3", "x86-64")]
    aot.compile(KERNEL, targets=targets).save(path)
    chosen = {name: check(path, machine(name)) for name in ("qemu-nehalem", "qemu-haswell", "zen5-kvm")}
    assert [answer.variants for answer in chosen.values()] == [("x86-64",), ("x86-64-v3",), ("x86-64-v4",)]
    assert all(answer.verdict == RUNS for answer in chosen.values())
    assert set(chosen["qemu-haswell"].guarded) >= {"avx512f"}
    aot.compile(KERNEL, targets=targets[:2]).save(path)
    answer = check(path, machine("qemu-nehalem"))
    assert (answer.verdict, answer.variants) == (WILL_NOT_RUN, ())
    assert any(re.search("runs none of its variants: x86-64-v3 needs .*avx2", reason) for reason in answer.reasons)


def test_another_architecture_or_system_is_the_reason(built) -> None:
    nehalem = machine("qemu-nehalem")
    older = nehalem.replace(arch="i686", features=FeatureSet("i686", nehalem.features.names - {"64bit"}))
    assert check(built(""), older).reasons == ("its code is for x86_64, but the CPU is i686",)
    assert check(built(""), older).verdict == WILL_NOT_RUN
    assert check(built(""), older).rebuild == ()
    mac = machine("qemu-haswell").replace(system="darwin")
    assert check(built(""), mac).reasons == ("it is ELF, which darwin does not load",)
    assert check(built(""), mac).rebuild == ()


@pytest.mark.parametrize(
    ("request_", "family"),
    [("cortex-a53", "aarch64"), ("armv8.2-a", "aarch64"), ("power9", "powerpc"), ("z14", "s390x")],
)
def test_a_request_for_another_architecture_is_answered_with_no(built, request_: str, family: str) -> None:
    answer = check(built(""), request_)
    assert (answer.on, answer.verdict) == (request_, WILL_NOT_RUN)
    assert answer.reasons == (f"its code is for x86_64, but the CPU is {family}",)


def test_32_bit_code_runs_on_64_bit_cpus(tmp_path: Path, compiler: str, built) -> None:
    source = tmp_path / "app.c"
    source.write_text(PROGRAM.replace("INSTRUCTION", USES["avx2"]))
    subprocess.run([compiler, "-m32", "-O1", "-c", source, "-o", tmp_path / "app.o"], check=True)
    assert check(tmp_path / "app.o", machine("qemu-haswell")).verdict == RUNS
    assert [lack.feature for lack in check(tmp_path / "app.o", machine("qemu-nehalem")).lacks] == ["avx2"]


NOTE = """
__asm__(".pushsection .note.gnu.property,\\"a\\"\\n.p2align 3\\n.long 4,16,5\\n.asciz \\"GNU\\"\\n"
        ".long 0xc0008002,4,4,0\\n.popsection");
int main(void) { return 0; }
"""


def test_a_file_that_glibcs_loader_refuses_does_not_run(qemu: str, tmp_path: Path, compiler: str) -> None:
    source, program = tmp_path / "app.c", tmp_path / "app"
    source.write_text(NOTE)
    subprocess.run([compiler, source, "-o", program], check=True)
    for run in verify(program, ["Nehalem", "Haswell"]):
        if run.status not in (0, 127):
            pytest.skip("this glibc is older than 2.33, or the linker leaves the note out")
        answer = check(program, machine(MODELS[run.cpu]))
        assert answer.verdict == (RUNS if run.result == RIGHT else WILL_NOT_RUN)
    assert "its ISA note requires x86-64-v3" in check(program, machine("qemu-nehalem")).reasons[0]


NEWEST = """
__attribute__((constructor)) static void early(void) { __asm__ volatile(".byte 0x62, 0xf5, 0x74, 0x48, 0x5d, 0xc2"); }
int main(void) { return 0; }
"""
"""VMINBF16 zmm0, zmm1, zmm2, of AVX10.2."""


def test_of_code_that_no_decoder_knows_it_cannot_be_told_whether_it_runs(tmp_path: Path, compiler: str) -> None:
    """A decoder that knows the instruction says that it may not run."""
    source, program = tmp_path / "app.c", tmp_path / "app"
    source.write_text(NEWEST)
    subprocess.run([compiler, "-O1", source, "-o", program], check=True)
    answer = check(program, "haswell")
    assert answer.verdict in (CANNOT_TELL, MAY_NOT_RUN)
    assert answer.reasons
    assert main(["check", "--no-libraries", str(program), "--cpu", "haswell"]) in (UNKNOWN, NO)


def test_a_file_without_code_does_not_run(tmp_path: Path) -> None:
    answer = check(assemble(tmp_path, ".data\n.long 1\n"), "nehalem")
    assert (answer.verdict, answer.reasons) == (CANNOT_TELL, ("there is no code in it",))
    assert main(["check", "--no-libraries", str(tmp_path / "text.o"), "--cpu", "nehalem"]) == UNKNOWN


def test_members_that_are_no_binaries_were_not_looked_at(tmp_path: Path) -> None:
    archiver = tool("ar")
    member = assemble(tmp_path, ".type f, @function\nf: ret\n.size f, .-f\n")
    (tmp_path / "other").write_bytes(b"BC\xc0\xde and more")
    subprocess.run([archiver, "rc", tmp_path / "a.a", member], check=True)
    assert check(tmp_path / "a.a", "nehalem").verdict == RUNS
    subprocess.run([archiver, "rc", tmp_path / "a.a", tmp_path / "other"], check=True)
    answer = check(tmp_path / "a.a", "nehalem")
    assert answer.verdict == CANNOT_TELL
    assert answer.reasons == (f"members of it are no binaries: {tmp_path / 'a.a'}(other)",)


# --- the command line


def test_the_command_prints_the_reasons_and_exits_with_1(built, capfd: pytest.CaptureFixture[str]) -> None:
    program = str(built("avx2"))
    assert main(["check", "--no-libraries", program, "--machine", str(MACHINES / "qemu-nehalem.json")]) == NO
    said = " ".join(capfd.readouterr().out.split())
    reason = "it uses avx2, and the audit saw no run-time check of that"
    assert said.startswith(f"{program}: may not run on Nehalem (nehalem): {reason} avx2: used in uses at 0x")
    assert "--target x86-64-v2, or as variants: --target x86-64-v3 --target x86-64-v2 " in said
    assert main(["check", "--no-libraries", program, "--cpu", "haswell"]) == OK
    alone = "this file alone: what it loads was not looked at"
    assert " ".join(capfd.readouterr().out.split()) == f"{program}: runs on haswell {alone}"


def test_json_has_the_same_answer(built, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--no-libraries", str(built("bmi2")), "--cpu", "x86-64-v2", "--json"]) == NO
    answer = json.loads(capfd.readouterr().out)
    assert (answer["on"], answer["verdict"]) == ("x86-64-v2", MAY_NOT_RUN)
    assert answer["reasons"] == ["it uses bmi2, and the audit saw no run-time check of that"]
    assert answer["lacks"][0]["function"] == "uses"


@pytest.mark.parametrize("name", ["app.c", "missing", ""])
def test_an_error_names_the_bad_input(built, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    built("")
    assert main(["check", "--no-libraries", str(tmp_path / name)]) == BAD
    error = capfd.readouterr().err
    assert str(tmp_path / name) in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("verb", ["audit", "check"])
@pytest.mark.parametrize(("name", "words"), [("missing", "No such file or directory"), ("n" * 300, "name too long")])
def test_an_unreadable_file_is_named_without_an_errno(
    verb: str, name: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, name]) == BAD
    error = capfd.readouterr().err
    assert error.startswith(f"cpufeat: {name}: ")
    assert words in error
    assert "Errno" not in error


@pytest.mark.parametrize("option", [("audit", "--max"), ("check", "--cpu")])
@pytest.mark.parametrize(("text", "words"), [("", "REQUEST is empty"), ("+avx2", "relative to a host")])
def test_a_request_that_names_no_cpu_is_bad_usage(
    built, option: tuple[str, str], text: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    verb, named = option
    assert main([verb, str(built("")), named, text]) == BAD
    error = capfd.readouterr().err
    assert words in error
    assert "name a level or a CPU" in error


def test_a_pipe_gets_the_same_answer(tmp_path: Path) -> None:
    aot.compile(KERNEL, targets=["x86-64-v3", "x86-64"]).save(tmp_path / "k.o")
    answers = []
    for file, given in ((str(tmp_path / "k.o"), None), ("-", (tmp_path / "k.o").read_bytes())):
        command = [sys.executable, "-m", "cpufeat", "check", file, "--cpu", "nehalem", "--json"]
        done = subprocess.run(command, input=given, capture_output=True, check=False)
        answers.append((done.returncode, {**json.loads(done.stdout), "file": ""}))
    assert answers[0] == answers[1]
    assert answers[0][1]["variants"] == ["x86-64"]


def test_a_machine_or_a_cpu_but_not_both(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--no-libraries", "x", "--cpu", "haswell", "--machine", "y"]) == BAD
    assert "not allowed with" in capfd.readouterr().err


def test_damaged_files_are_errors_that_name_them(built, tmp_path: Path) -> None:
    whole = built("avx2").read_bytes()
    damaged = tmp_path / "damaged"
    for size in range(4, len(whole), len(whole) // 40):
        damaged.write_bytes(whole[:size])
        with pytest.raises(AuditError, match="damaged"):
            check(damaged, "x86-64")
