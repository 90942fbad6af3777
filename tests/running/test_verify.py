"""Verify: programs that are compiled here, on CPUs that qemu-user emulates."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.paths import PROJECT
from helpers.requirements import tool

from cpufeat import Target, VerifyError, aot, features, levels
from cpufeat.cli import main
from cpufeat.cli.options import BAD, NO, OK, UNKNOWN
from cpufeat.cli.verbs.verify import cpus
from cpufeat.detection import recording
from cpufeat.detection.detect import detect
from cpufeat.detection.systems import ThisMachine
from cpufeat.running.cpus import NATIVE, models_by_level, select_cpus
from cpufeat.running.death import Death
from cpufeat.running.qemu import Emulator, emulator
from cpufeat.running.verify import DIED, DIFFERS, EXPIRED, FAILED, NOT_RUN, REFUSED, RIGHT, Run, verdict_of, verify
from cpufeat.support import processes
from cpufeat.support.verdict import CANNOT_TELL, RUNS, WILL_NOT_RUN

if TYPE_CHECKING:
    from cpufeat.aot.runtime.dispatcher import Mechanism

X86 = ThisMachine().arch == "x86_64"
pytestmark = pytest.mark.skipif(not X86, reason="the programs are for x86-64, and some run natively")

HELLO = '#include <stdio.h>\nint main(int c, char **v) { printf("%s\\n", c > 1 ? v[c - 1] : "-"); return c; }'
AVX2 = """
#include <stdio.h>
int main(void) { puts("up"); fflush(stdout); __asm__ volatile("vpabsb %ymm0, %ymm0"); return 0; }
"""
ASKS = """
#include <stdio.h>
int main(void) { __builtin_cpu_init(); puts(__builtin_cpu_supports("avx") ? "with AVX" : "without"); return 0; }
"""
REFUSES = """
#include <stdio.h>
int main(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) return 0;
    fputs("some noise\\napp: this CPU lacks: avx2 (needed by this program, built for x86-64-v3)\\n", stderr);
    return 126;
}
"""


@pytest.fixture
def built(tmp_path: Path, compiler: str):
    def build(code: str, *options: str) -> Path:
        source, program = tmp_path / "program.c", tmp_path / f"program{len(list(tmp_path.iterdir()))}"
        source.write_text(code)
        subprocess.run([compiler, "-O1", source, "-o", program, *options], check=True)
        return program

    return build


def results(runs: list[Run]) -> list[str]:
    return [run.result for run in runs]


# --- which CPUs


def probe(command: list[str]) -> recording.Recording:
    """What cpufeat records of the machine that a Python runs on."""
    code = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from cpufeat.detection.recorder import record
from cpufeat.detection.systems import ThisMachine
print(record(ThisMachine()).to_json())
"""
    result = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return recording.Recording.from_json(result.stdout)


def test_by_default_there_is_a_cpu_for_each_level_and_it_has_that_level(qemu: str) -> None:
    selected = select_cpus("x86_64")
    assert [cpu.level for cpu in selected] == list(levels.levels("x86_64"))
    for cpu in selected:
        if cpu.emulator:
            assert detect(probe([qemu, "-cpu", cpu.model])).level == cpu.level, cpu.name
        elif cpu.name == NATIVE:
            assert detect(ThisMachine()).level == cpu.level
        else:
            assert cpu.reason
    assert [bool(cpu.emulator) for cpu in selected][:2] == [True, True]


def test_each_model_of_the_table_has_its_level_unless_it_is_not_fully_emulated(qemu: str) -> None:
    x86_64 = emulator("x86_64")
    known = x86_64.models()
    rows = [(level, model) for level, models in models_by_level("x86_64").items() for model in models if model in known]
    assert len(rows) > len(levels.levels("x86_64"))
    for level, model in rows:
        detected = detect(probe([qemu, "-cpu", model])).level
        is_complete = x86_64.unemulated_features(model).isdisjoint(levels.level_features("x86_64", level))
        assert (detected == level) == is_complete, model


def test_cpuid_lacks_the_unemulated_features(qemu: str) -> None:
    unemulated = emulator("x86_64").unemulated_features("Skylake-Server")
    assert {"avx512f", "avx512bw"} <= unemulated or "avx512f" in detect(
        probe([qemu, "-cpu", "Skylake-Server"])
    ).features
    assert unemulated.isdisjoint(detect(probe([qemu, "-cpu", "Skylake-Server"])).features)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Nehalem", ["Nehalem"]),
        ("Nehalem,Haswell", ["Nehalem", "Haswell"]),
        ("Haswell,-avx2,+xop,Nehalem,max,avx=off", ["Haswell,-avx2,+xop", "Nehalem", "max,avx=off"]),
        ("native,x86-64-v2,", ["native", "x86-64-v2"]),
    ],
)
def test_changes_in_a_list_belong_to_the_cpu_before_them(text: str, names: list[str]) -> None:
    assert cpus(text) == names


def test_models_are_found_in_any_case_and_unknown_ones_are_errors_with_suggestions(qemu: str) -> None:
    assert [cpu.name for cpu in select_cpus("x86_64", ["haswell,-avx", "NEHALEM"])] == ["Haswell,-avx", "Nehalem"]
    assert [cpu.level for cpu in select_cpus("x86_64", ["x86-64-v2", "Westmere", "phenom"])] == ["x86-64-v2"] * 2 + [""]
    with pytest.raises(VerifyError, match="no CPU model 'Hasvell'; did you mean Haswell"):
        select_cpus("x86_64", ["Hasvell"])
    with pytest.raises(VerifyError, match=r"Haswell,-nonsense: Property .*nonsense' not found"):
        select_cpus("x86_64", ["Haswell,-nonsense"])


def test_without_an_emulator_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(VerifyError, match=r"needs qemu-aarch64, .*: install qemu-user"):
        select_cpus("aarch64")
    assert select_cpus("x86_64", [NATIVE])[0].emulator is None


def test_on_request_no_level_is_run_on_this_machine_itself(qemu: str) -> None:
    for cpu in select_cpus("x86_64", emulated_only=True):
        assert cpu.emulator or "only emulated CPUs are asked for" in cpu.reason or "this machine is" in cpu.reason
    with pytest.raises(VerifyError, match="this machine itself"):
        select_cpus("x86_64", ["Nehalem", NATIVE], emulated_only=True)


def test_the_verdict_on_runs_is_harder_on_cpus_that_are_named() -> None:
    def verdicts(*results: str) -> tuple[str, str]:
        runs = [Run("max", "", "", result) for result in results]
        return verdict_of(runs, are_named=True), verdict_of(runs, are_named=False)

    assert verdicts(RIGHT, RIGHT) == (RUNS, RUNS)
    assert verdicts(RIGHT, REFUSED) == (WILL_NOT_RUN, RUNS)
    assert verdicts(RIGHT, NOT_RUN) == (CANNOT_TELL, RUNS)
    assert verdicts(REFUSED) == (WILL_NOT_RUN, CANNOT_TELL)
    assert verdicts(NOT_RUN) == verdicts() == (CANNOT_TELL, CANNOT_TELL)
    for result in (DIED, DIFFERS, EXPIRED, FAILED):
        assert verdicts(RIGHT, result) == (WILL_NOT_RUN, WILL_NOT_RUN)


# --- results of runs


def test_a_program_that_does_the_same_everywhere_is_right(qemu: str, built) -> None:
    runs = list(verify(built(HELLO), ["Conroe", "Haswell", NATIVE], ["a", "--b"]))
    assert results(runs) == [RIGHT] * 3
    assert [(run.status, run.signal, run.stdout, run.stdout_size) for run in runs] == [(3, "", b"--b\n", 4)] * 3
    assert [run.emulator for run in runs] == ["qemu-x86_64", "qemu-x86_64", ""]


def test_a_death_by_a_signal_is_named_and_leaves_no_core_dump(
    qemu: str, built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    program, here = built(AVX2), tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        runs = list(verify(program, ["Nehalem", "Haswell,-avx", "max"]))
        assert resource.getrlimit(resource.RLIMIT_CORE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert results(runs) == [DIED, DIED, RIGHT]
    assert [(run.status, run.signal) for run in runs] == [(None, "SIGILL"), (None, "SIGILL"), (0, "")]
    assert [run.death is None for run in runs] == [False, False, True]
    assert [run.stdout for run in runs] == [b"up\n"] * 3
    assert list(here.iterdir()) == []


IN_FUNCTIONS = """
#include <signal.h>
#include <unistd.h>
static void handle(int number) { (void)number; }
__attribute__((noinline)) void uses(void) { __asm__ volatile(".globl here\\nhere: INSTRUCTION"); }
int main(void) {
    signal(SIGALRM, handle); signal(SIGUSR1, handle);
    for (int i = 0; i < 50; i++) raise(SIGUSR1);
    uses();
    return 0;
}
"""


def address_of(path: Path, symbol: str) -> int:
    listing = subprocess.run([tool("nm"), path], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[0], 16) for line in listing.splitlines() if line.endswith(f" {symbol}"))


@pytest.mark.parametrize("options", [("-pie",), ("-no-pie",), ("-static",), ("-static-pie",)])
def test_a_death_names_the_instruction_its_address_function_and_features(
    qemu: str, built, options: tuple[str, ...]
) -> None:
    program = built(IN_FUNCTIONS.replace("INSTRUCTION", "vpabsb %ymm0, %ymm0"), *options)
    (run,) = verify(program, ["Nehalem"])
    assert run.death == Death(str(program), "uses", address_of(program, "here"), "vpabsb ymm0, ymm0", ("avx2",))
    assert run.message == f"{signal.strsignal(signal.SIGILL)}: {run.death}"
    assert str(run.death).startswith("vpabsb ymm0, ymm0, which needs avx2, at 0x")


def test_a_death_in_a_library_names_the_library(qemu: str, built) -> None:
    library = built('void made(void) { __asm__ volatile("pdep %eax, %eax, %eax"); }', "-shared", "-fPIC")
    program = built("void made(void); int main(void) { made(); return 0; }", str(library))
    (run,) = verify(program, ["Nehalem"])
    assert run.death is not None
    assert (run.death.file, run.death.function, run.death.needs) == (str(library), "made", ("bmi2",))


def test_a_death_by_another_signal_names_the_instruction_too(qemu: str, built) -> None:
    program = built("int main(int c, char **v) { (void)v; return *(volatile int *)(long)(c - 1); }")
    (run,) = verify(program, ["Nehalem"])
    assert (run.signal, run.result) == ("SIGSEGV", DIED)
    assert run.death is not None
    assert (run.death.function, run.death.needs) == ("main", ())
    assert run.death.instruction.startswith("mov")


def test_a_death_on_64_bit_arm_names_the_instruction(tmp_path: Path) -> None:
    tool("qemu-aarch64")
    source, program = tmp_path / "dies.s", tmp_path / "dies"
    source.write_text(".globl _start\n.type _start, %function\n_start: nop\nptrue p0.b\n.size _start, .-_start\n")
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-freestanding", "-mcpu=generic+sve", "-nostdlib")
    subprocess.run([*zig, source, "-o", program], capture_output=True, check=True)
    (run,) = verify(program, ["cortex-a53"])
    assert run.death is not None
    assert (run.death.function, run.death.instruction, run.death.needs) == ("_start", "ptrue p0.b", ("sve",))


def test_another_output_or_status_differs_from_the_first_right_run(qemu: str, built) -> None:
    runs = list(verify(built(ASKS), ["Nehalem", "Conroe", "max", "max,-avx"]))
    assert results(runs) == [RIGHT, RIGHT, DIFFERS, RIGHT]
    assert runs[2].message == "its output differs from that on Nehalem after byte 4"
    by_status = list(
        verify(built(HELLO.replace("return c", 'return __builtin_cpu_supports("avx") != 0')), ["Nehalem", "max"])
    )
    assert results(by_status) == [RIGHT, DIFFERS]
    assert by_status[1].message == "exit status 1, on Nehalem 0"


def test_a_refusal_with_a_message_is_fine_and_one_without_is_an_exit_status(qemu: str, built) -> None:
    runs = list(verify(built(REFUSES), ["Nehalem", "max"]))
    assert results(runs) == [REFUSED, RIGHT]
    assert runs[0].message == "app: this CPU lacks: avx2 (needed by this program, built for x86-64-v3)"
    silent = list(verify(built("int main(void) { return 126; }"), ["Nehalem"]))
    assert (results(silent), silent[0].status) == ([RIGHT], 126)


def test_a_refusal_by_glibcs_loader_is_recognized(qemu: str, built, tmp_path: Path) -> None:
    note = """
__asm__(".pushsection .note.gnu.property,\\"a\\"\\n.p2align 3\\n.long 4,16,5\\n.asciz \\"GNU\\"\\n"
        ".long 0xc0008002,4,4,0\\n.popsection");
"""
    runs = list(verify(built(note + HELLO), ["Conroe", "max"]))
    if runs[0].status != 127:
        pytest.skip("this glibc is older than 2.33, or the linker leaves the note out")
    assert results(runs) == [REFUSED, RIGHT]
    assert "CPU ISA level is lower than required" in runs[0].message


@pytest.mark.parametrize("closes", ["", "fclose(stdout); fclose(stderr);"])
def test_a_program_is_killed_at_the_time_limit(qemu: str, built, closes: str) -> None:
    loop = f"#include <stdio.h>\n#include <unistd.h>\nint main(void) {{ {closes} for (;;) pause(); }}"
    start = time.monotonic()
    runs = list(verify(built(loop), ["Nehalem", NATIVE], time_limit=0.5))
    assert results(runs) == [EXPIRED] * 2
    assert [(run.status, run.signal) for run in runs] == [(None, "")] * 2
    assert runs[0].message == "it ran for longer than 0.5 s"
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(("parent", "result"), [("for (;;) pause()", EXPIRED), ("return 0", RIGHT)])
def test_children_of_a_program_are_killed_with_it(qemu: str, built, parent: str, result: str) -> None:
    code = """
#include <stdio.h>
#include <unistd.h>
int main(void) {
    int child = fork();
    if (child == 0) for (;;) pause();
    printf("%d\\n", child); fflush(stdout);
    PARENT;
}"""
    for run in verify(built(code.replace("PARENT", parent)), ["Nehalem", NATIVE], time_limit=1):
        assert run.result in (result, DIFFERS)  # the number of the process does
        until = time.monotonic() + 10
        while is_running(int(run.stdout)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not is_running(int(run.stdout))


def test_a_daemon_that_keeps_the_output_open_is_not_waited_for(built) -> None:
    """No thread or file is left behind either."""
    code = """
#include <stdio.h>
#include <unistd.h>
int main(void) {
    int child = fork();
    if (child == 0) { setsid(); sleep(5); return 0; }
    puts("done");
    return 0;
}"""
    program = built(code)
    before = threading.active_count(), len([*Path("/proc/self/fd").iterdir()])
    (run,) = verify(program, [NATIVE])
    assert (run.result, run.stdout) == (RIGHT, b"done\n")
    assert run.seconds < 5
    assert (threading.active_count(), len([*Path("/proc/self/fd").iterdir()])) == before


DAEMON = """
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
    int ends[2];
    if (pipe(ends)) return 9;
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            prctl(PR_SET_NAME, "away");
            int self = getpid();
            if (write(ends[1], &self, sizeof self) < 0) return 9;
            for (int file = 0; file < 100; file++) close(file);
            for (;;) pause();
        }
        return 0;
    }
    int away;
    if (read(ends[0], &away, sizeof away) < 0) return 9;
    printf("%d\\n", away); fflush(stdout);
    LAST;
}"""


@pytest.mark.parametrize(("last", "result"), [("return 0", RIGHT), ("for (;;) pause()", EXPIRED)])
def test_a_daemon_of_its_own_session_without_open_files_does_not_outlive_the_run(
    qemu: str, built, last: str, result: str
) -> None:
    for run in verify(built(DAEMON.replace("LAST", last)), ["Nehalem", NATIVE], time_limit=2):
        assert run.result in (result, DIFFERS)  # the number of the process does
        assert not is_running(int(run.stdout))


def test_a_program_does_not_outlive_a_caller_that_was_killed(built, tmp_path: Path) -> None:
    program = built(
        '#include <stdio.h>\n#include <unistd.h>\nint main(int c, char **v) { FILE *file = fopen(v[1], "w"); '
        'fprintf(file, "%d", getpid()); fclose(file); for (;;) pause(); }'
    )
    note = tmp_path / "process"
    code = f"import cpufeat; list(cpufeat.verify({str(program)!r}, ['native'], [{str(note)!r}]))"
    caller = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(PROJECT)})
    until = time.monotonic() + 30
    while not (note.exists() and note.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    process = int(note.read_text())
    while is_running(process) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(process)


def test_runs_in_parallel_restore_the_core_dump_limit() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    ulimit = ["/bin/sh", "-c", "ulimit -c"]
    with ThreadPoolExecutor(8) as threads:
        ended = list(threads.map(lambda _: processes.run(ulimit, seconds=60, environment={}), range(40)))
    assert {run.stdout.start for run in ended} == {b"0\n"}
    assert resource.getrlimit(resource.RLIMIT_CORE) == before


def test_signals_without_a_name_have_a_number() -> None:
    kill = ["/bin/sh", "-c", "kill -40 $$"]
    assert processes.signal_name(-processes.run(kill, seconds=60, environment={}).status) == "signal 40"


def is_running(process: int) -> bool:
    """Whether there is such a process that is not a zombie, for which its parent has no eye."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_endless_output_is_not_kept_in_memory(qemu: str, built) -> None:
    runs = list(
        verify(built('#include <stdio.h>\nint main(void) { for (;;) puts("yyyyyyy"); }'), [NATIVE], time_limit=1)
    )
    assert results(runs) == [EXPIRED]
    assert runs[0].stdout_size > len(runs[0].stdout) == processes.KEPT_BYTES


def test_the_environment_is_passed_on_without_qemus_variables(
    qemu: str, built, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QEMU_STRACE", "1")
    monkeypatch.setenv("QEMU_LOG_FILENAME", str(tmp_path / "log"))
    monkeypatch.setenv("MINE", "kept")
    code = """
#include <stdio.h>
#include <stdlib.h>
int main(void) { puts(getenv("MINE")); return getenv("QEMU_STRACE") != 0; }
"""
    runs = list(verify(built(code), ["Nehalem", NATIVE]))
    assert [(run.result, run.stdout, run.status) for run in runs] == [(RIGHT, b"kept\n", 0)] * 2


def test_a_program_that_the_emulator_cannot_start_has_its_message(qemu: str, built) -> None:
    runs = list(verify(built(HELLO), ["qemu32"]))
    assert (results(runs), runs[0].message) == ([FAILED], "The selected x86 CPU does not support 64 bit mode")
    loader = list(verify(built(HELLO, "-Wl,--dynamic-linker=/lib/there-is-none.so"), ["Nehalem"]))
    assert results(loader) == [FAILED]
    assert "/lib/there-is-none.so" in loader[0].message


NEEDS = "int made(void); int main(void) { return made(); }"
MADE = "int made(void) { return 0; }"


@pytest.mark.parametrize(
    ("library", "words"),
    [
        (None, "error while loading shared libraries"),
        ("", "symbol lookup error: .*undefined symbol: made"),
        ("/* no library */", "error while loading shared libraries: .*: file too short|invalid ELF header"),
    ],
)
def test_a_program_that_the_loader_cannot_load_did_not_start(qemu: str, built, library: str | None, words: str) -> None:
    made = built(MADE, "-shared", "-fPIC")
    program = built(NEEDS, str(made))
    if library is None:
        made.unlink()
    elif library:
        made.write_text(library)
    else:
        built(library, "-shared", "-fPIC").rename(made)
    for run in verify(program, ["Nehalem", NATIVE]):
        assert (run.result, run.status) == (FAILED, 127)
        assert re.search(words, run.message)
    assert main(["verify", str(program), "--on", "Nehalem"]) == NO


def test_a_library_of_another_version_did_not_start(qemu: str, built, tmp_path: Path) -> None:
    script = tmp_path / "versions"
    script.write_text("LATER { made; };")
    made = built(MADE, "-shared", "-fPIC", f"-Wl,--version-script={script}")
    program = built(NEEDS, str(made))
    script.write_text("EARLIER { made; };")
    built(MADE, "-shared", "-fPIC", f"-Wl,--version-script={script}").rename(made)
    for run in verify(program, ["Nehalem", NATIVE]):
        assert run.result == FAILED
        assert "version `LATER' not found" in run.message


MUSL = """
#include <stdio.h>
int main(int c, char **v) { fprintf(stderr, "Error relocating %s: made: symbol not found\\n", v[0]); return 127; }
"""


def test_messages_of_musls_loader_are_recognized(qemu: str, built) -> None:
    """As in musl's ldso/dynlink.c, do_relocs."""
    (run,) = verify(built(MUSL), ["Nehalem"])
    assert run.result == FAILED
    assert run.message.endswith(": made: symbol not found")


def test_an_exit_status_alone_is_no_failure_to_start(qemu: str, built) -> None:
    assert results(list(verify(built("int main(void) { return 127; }"), ["Nehalem"]))) == [RIGHT]


def test_files_that_are_no_executable_are_errors_that_name_them(built, tmp_path: Path) -> None:
    (tmp_path / "text.c").write_text(HELLO)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FileNotFoundError, match="missing"):
        verify(tmp_path / "missing")
    made = [tmp_path, tmp_path / "text.c", tmp_path / "fifo"]
    for path in (*made, built(HELLO, "-c"), built(HELLO, "-shared", "-fPIC")):
        with pytest.raises(VerifyError, match=path.name):
            verify(path)


def test_damaged_executables_are_errors_or_failures(qemu: str, built, tmp_path: Path) -> None:
    whole = built(HELLO).read_bytes()
    damaged = tmp_path / "damaged"
    for size in (4, 20, 64, 300, 1000, len(whole) // 2):
        damaged.write_bytes(whole[:size])
        damaged.chmod(0o755)
        try:
            runs = list(verify(damaged, ["Nehalem"]))
        except VerifyError as error:
            assert "damaged" in str(error)
        else:
            assert results(runs) != [RIGHT]


# --- which variant ran

KERNEL = """
target triple = "x86_64-unknown-linux-gnu"
define i32 @kernel(i32 %n) { %r = mul i32 %n, 3
ret i32 %r }
"""
CALLS = '#include <stdio.h>\nint kernel(int n);\nint main(int c, char **v) { printf("%d\\n", kernel(c)); return 0; }'
LEVELS = ["x86-64-v4", "x86-64-v3", "x86-64"]
LINKED = {"PIE": ["-pie"], "no PIE": ["-no-pie"], "static": ["-static"], "static PIE": ["-static-pie"]}


@pytest.fixture
def with_variants(tmp_path: Path, built):
    def build(dispatch: Mechanism, *options: str, code: str = CALLS) -> Path:
        targets = [Target.parse(level) for level in LEVELS]
        aot.compile(KERNEL, targets=targets, dispatch=dispatch).save(tmp_path / "kernel.o")
        return built(code, str(tmp_path / "kernel.o"), *options)

    return build


@pytest.mark.parametrize("dispatch", ["ifunc", "pointer"])
@pytest.mark.parametrize("options", LINKED.values(), ids=LINKED)
def test_the_variant_that_ran_is_observed(qemu: str, with_variants, dispatch: str, options: list[str]) -> None:
    host = detect(ThisMachine())
    here = next(level for level in LEVELS if Target.parse(level).runs_on(host))
    runs = list(verify(with_variants(dispatch, *options), ["Conroe", "Haswell", "Haswell,-fma", "max", NATIVE]))
    assert results(runs) == [RIGHT] * 5
    assert [run.variants for run in runs] == [("x86-64",), ("x86-64-v3",), ("x86-64",), ("x86-64-v3",), (here,)]


KILLS_ITSELF = """
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
int kernel(int n);
static void caught(int number) { printf("caught %d\\n", number == SIGUSR1 ? kernel(1) : 0); fflush(stdout); }
int main(void) { signal(SIGUSR1, caught); raise(SIGUSR1); raise(SIGSTOP); END }
"""


@pytest.mark.parametrize(
    ("end", "result", "status_or_signal"),
    [("return 7;", RIGHT, 7), ("raise(SIGILL);", DIED, "SIGILL"), ("for (;;) pause();", EXPIRED, "")],
)
def test_a_traced_program_gets_its_signals(with_variants, end: str, result: str, status_or_signal: object) -> None:
    program = with_variants("pointer", code=KILLS_ITSELF.replace("raise(SIGSTOP);", "").replace("END", end))
    (run,) = verify(program, [NATIVE], time_limit=1)
    assert (run.result, run.stdout) == (result, b"caught 3\n")
    assert status_or_signal in (run.status, run.signal)
    assert run.variants if result != EXPIRED else run.status is None


def test_a_traced_program_that_stops_itself_is_killed_at_the_time_limit(with_variants) -> None:
    (run,) = verify(with_variants("pointer", code=KILLS_ITSELF.replace("END", "return 0;")), [NATIVE], time_limit=0.5)
    assert run.result == EXPIRED


def test_a_traced_program_that_cannot_be_started_did_not_start(with_variants) -> None:
    program = with_variants("ifunc")
    program.chmod(0o644)
    (run,) = verify(program, [NATIVE])
    assert run.result == FAILED
    assert "ermission denied" in run.message


def test_a_variant_that_is_not_called_did_not_run(qemu: str, with_variants) -> None:
    program = with_variants("ifunc", code=CALLS.replace("kernel(c)", "c > 1 ? kernel(c) : 0"))
    assert [run.variants for run in verify(program, ["Haswell"])] == [()]
    assert [run.variants for run in verify(program, ["Haswell"], ["x"])] == [("x86-64-v3",)]


def test_variants_are_none_if_they_cannot_be_observed(qemu: str, with_variants, built) -> None:
    assert [run.variants for run in verify(built(HELLO), ["Haswell"])] == [None]
    program = with_variants("ifunc", "-s")
    assert [(run.result, run.variants) for run in verify(program, ["Haswell"])] == [(RIGHT, None)]


@pytest.fixture(scope="session")
def for_arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for 64-bit Arm, with variants for the levels that CPU models stand for and for those in between."""
    tool("qemu-aarch64")
    folder = tmp_path_factory.mktemp("arm")
    source, program = folder / "program.c", folder / "program"
    source.write_text("#include <stdio.h>\n__attribute__((noinline)) int kernel(int n) { return n * 3; }" + CALLS[18:])
    triple = ["--triple", "aarch64-unknown-linux-musl"]
    targets = [word for level in ARM_LEVELS for word in ("--target", level)]
    assert main(["compile", str(source), "-o", str(program), "--exe", *triple, *targets]) == OK
    return program


ARM_LEVELS = ["armv9-a", "armv8.4-a", "armv8.3-a", "armv8.2-a", "armv8.1-a", "armv8-a"]


def test_on_64_bit_arm_each_model_of_the_table_is_of_its_level(for_arm: Path) -> None:
    known = emulator("aarch64").models()
    rows = [(level, model) for level, models in models_by_level("aarch64").items() for model in models]
    there = [(level, model) for level, model in rows if model in known]
    runs = list(verify(for_arm, [model for _, model in there]))
    assert [run.variants for run in runs] == [(level,) for level, _ in there]
    assert results(runs) == [RIGHT] * len(there)
    assert {"armv8-a", "armv8.2-a"} <= {level for level, _ in there}


def test_on_64_bit_arm_a_level_without_a_model_is_not_run(for_arm: Path) -> None:
    known = emulator("aarch64").models()
    for run, (level, models) in zip(verify(for_arm), models_by_level("aarch64").items(), strict=True):
        assert run.level == level
        assert (run.result == RIGHT) == bool(set(models) & set(known))
        assert (run.result == NOT_RUN) == ("no CPU model of that level" in run.message)


EXITS = {
    "i686": ("x86-freestanding", "mov $1, %eax; mov $7, %ebx; int $0x80"),
    "riscv64": ("riscv64-freestanding", "li a7, 93; li a0, 7; ecall"),
    "ppc64le": ("powerpc64le-freestanding", "li 0, 1; li 3, 7; sc"),
    "s390x": ("s390x-freestanding", "lghi %r2, 7; svc 1"),
}


@pytest.mark.parametrize("arch", EXITS)
def test_programs_of_other_architectures_run_on_a_model_of_their_level_or_the_default(
    arch: str, tmp_path: Path
) -> None:
    """There is one CPU for each level, or the emulator's default if the table has no models for the architecture."""
    try:
        emulator(arch)
    except VerifyError as error:
        pytest.skip(str(error))
    target, code = EXITS[arch]
    source, program = tmp_path / "exits.s", tmp_path / "exits"
    source.write_text(f".globl _start\n_start: {code}\n")
    zig = (sys.executable, "-m", "ziglang", "cc")
    subprocess.run([*zig, "-target", target, "-nostdlib", source, "-o", program], capture_output=True, check=True)
    (run,) = verify(program)
    assert (run.result, run.status) == (RIGHT, 7)
    assert run.level == ("i686" if arch == "i686" else "")
    assert run.cpu == ("pentium2" if arch == "i686" else "default")


# --- the command line


def test_the_command_prints_a_row_for_each_cpu_and_exits_by_the_results(
    qemu: str, built, capfd: pytest.CaptureFixture[str]
) -> None:
    program = str(built(AVX2))
    assert main(["verify", program, "--on", "max", "--on=Nehalem"]) == NO
    output = capfd.readouterr()
    head, right, died, *why, summary = output.out.splitlines()
    assert output.err == f"running {program} on emulated CPUs, with your rights and your files\n"
    assert summary == "will not run: 1 right, 1 died"
    assert head.split() == ["CPU", "level", "result", "exit", "variant", "seconds"]
    assert right.split()[:4] == ["max", "-", "right", "0"]
    assert died.split()[:4] == ["Nehalem", "x86-64-v2", "died", "SIGILL"]
    assert why[0].startswith(f"    {signal.strsignal(signal.SIGILL)}: vpabsb ymm0, ymm0, which needs avx2")
    assert main(["verify", str(built(HELLO)), "--on", "max", "--", "--on", "x"]) == OK
    assert main(["verify", str(built(REFUSES)), "--on", "Nehalem,max"]) == NO
    assert main(["verify", str(built(REFUSES))]) == OK
    assert re.search("^runs: 2 refused, [12] right", capfd.readouterr().out, re.M)
    assert main(["verify", program, "--on", "Pentium5"]) == BAD
    assert "no CPU model 'Pentium5'" in capfd.readouterr().err


def test_json_has_every_field_of_a_run(qemu: str, built, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(built(HELLO)), "--on", "max,Nehalem", "--json", "--", "x"]) == OK
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["cpu"], line["result"], line["status"], line["stdout"]) for line in lines] == [
        ("max", RIGHT, 2, "x\n"),
        ("Nehalem", RIGHT, 2, "x\n"),
    ]
    assert set(lines[0]) >= set(Run._fields) - {"stdout"}


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_limit_must_be_a_positive_finite_number(limit: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "x", "--time-limit", limit]) == BAD
    assert "--time-limit" in capfd.readouterr().err


def test_a_level_without_a_cpu_is_not_run_and_no_failure(
    qemu: str, built, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from cpufeat.running import cpus as module

    monkeypatch.setattr(
        module, "detect", lambda machine: detect(machine).replace(features=features.FeatureSet("x86_64"))
    )
    monkeypatch.setattr(Emulator, "unemulated_features", lambda self, model: frozenset({"avx512f"}))
    runs = list(verify(built(HELLO)))
    assert results(runs) == [RIGHT, RIGHT, RIGHT, NOT_RUN]
    assert (runs[3].level, runs[3].cpu) == ("x86-64-v4", "")
    assert "does not emulate avx512f" in runs[3].message
    assert main(["verify", str(built(HELLO)), "--on", "x86-64-v4"]) == UNKNOWN
    assert main(["verify", str(built(HELLO)), "--on", "x86-64-v4,x86-64"]) == UNKNOWN
    assert "does not emulate avx512f" in capfd.readouterr().out
