"""What LLVM does to its process stays there: aborts, hangs, memory, death, garbage. The process is kept, not leaked."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.llvm_workers import ADD, compile_quietly, end_worker
from helpers.object_inspection import symbols
from helpers.paths import PROJECT
from hypothesis import example, given, settings
from hypothesis import strategies as st
from llvmlite import binding

from cpufeat import CompileError, CpufeatWarning, OptionError, Target, TargetError, aot
from cpufeat.aot.fallback import failing_function
from cpufeat.aot.worker import client, protocol
from cpufeat.support.deadline import Deadline

BASELINE = Target.parse("x86-64")
FINE = "define i32 @fine(i32 %a) { ret i32 %a }\n"
WIDE = "<64 x i64>"
SLOW = "".join(
    f"""define {WIDE} @slow{index}({WIDE} %a, {WIDE} %b) {{ %r = srem {WIDE} %a, %b
      %x = xor {WIDE} %r, %b
      %q = sdiv {WIDE} %x, %a
      ret {WIDE} %q }}
    """
    for index in range(1000)
)
"""Takes LLVM some fifteen seconds."""
HUGE = '@huge = global [268435456 x i8] zeroinitializer, section ".data"'
"""Makes an object of 256 MiB."""
INTRINSIC = "@llvm.x86.avx512.rcp14.ps.512"
CULPRIT = f"""
declare <16 x float> {INTRINSIC}(<16 x float>, <16 x float>, i16)
define <16 x float> @culprit(<16 x float> %a) {{
  %r = call <16 x float> {INTRINSIC}(<16 x float> %a, <16 x float> %a, i16 -1)
  ret <16 x float> %r
}}
"""
"""Aborts on every target without AVX-512."""


def compile_fine():
    assert "fine" in symbols(aot.compile(FINE, BASELINE).object)


def worker_pid():
    return client._worker.pid


def test_one_worker_is_kept():
    compile_fine()
    pid = worker_pid()
    compile_fine()
    assert worker_pid() == pid


def test_an_abort_is_an_error_that_lists_what_was_tried(capfd):
    others = "".join(f"define void @other{index}() {{ ret void }}\n" for index in range(9))
    with pytest.raises(CompileError, match=r"LLVM ERROR: .*\(for haswell, x86-64-v3, x86-64-v2, x86-64\)") as caught:
        aot.compile(others + CULPRIT + FINE, Target.parse("haswell"))
    assert caught.value.function == "culprit"
    assert "function culprit: " in str(caught.value)
    assert capfd.readouterr() == ("", "")
    compile_fine()


def test_an_abort_without_fallback_stops_at_once():
    with pytest.raises(CompileError, match=r" \(for haswell\)$"):
        aot.compile(CULPRIT, Target.parse("haswell"), on_missing="error")


def test_inline_assembly_that_exits_is_an_error_that_names_an_internal_function():
    module = """
    define internal void @culprit() noinline { call void asm sideeffect "no_such_instruction", ""()
      ret void }
    define void @caller() { call void @culprit()
      ret void }
    """
    with pytest.raises(CompileError, match="invalid instruction mnemonic") as caught:
        aot.compile(FINE + module, BASELINE)
    assert caught.value.function == "culprit"


def test_an_error_in_module_assembly_names_no_function():
    with pytest.raises(CompileError, match="invalid instruction mnemonic") as caught:
        aot.compile('module asm "no_such_instruction"\n' + FINE, BASELINE)
    assert caught.value.function is None


def test_a_warning_of_llvm_becomes_a_cpufeat_warning():
    module = r'define void @f() { call void asm sideeffect ".warning \22mind the gap\22", ""() ret void }'
    with pytest.warns(CpufeatWarning, match="LLVM wrote: .*mind the gap"):
        aot.compile(module.replace(" ret", "\n ret"), BASELINE)


def test_64_bit_code_for_a_cpu_without_64bit_is_an_error():
    lacking = BASELINE.replace(features=BASELINE.features.without(["64bit"]))
    with pytest.raises(CompileError, match=r"64-bit code requested on a subtarget"):
        aot.compile(FINE, lacking)
    compile_fine()


def test_after_a_crash_while_parsing_no_lower_level_is_tried():
    deep = "@x = external global " + "[1 x " * 200_000 + "i8" + "]" * 200_000
    with pytest.raises(CompileError, match=r"^LLVM ended with SIGSEGV$"):
        aot.compile(deep, Target.parse("haswell"))
    compile_fine()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("define void @f( {", r"^<string>:1:18: error: expected type"),
        ("\n\ndefine i32 @f() { ret i64 0 }", r"^<string>:3:"),
        ("define i32 @f() { ret i32 %x }", "use of undefined value '%x'"),
        ("define void @f() { call void @llvm.assume(i1 false, i1 false) ret void }", r"^<string>:1:"),
        ("define void @f() {\na: br label %b\nb: %x = phi i32 [0, %b]\nret void }", "PHI"),
        (b"BC\xc0\xde", "^<bitcode>: "),
        (b"BC\xc0\xde" + bytes(64), "^<bitcode>: "),
    ],
)
@pytest.mark.parametrize("isolation", ["process", "none"])
def test_a_module_that_llvm_rejects_is_an_error_with_llvms_message(module, message, isolation):
    with pytest.raises(CompileError, match=message) as caught:
        aot.compile(module, Target.parse("haswell"), isolation=isolation)
    assert type(caught.value) is CompileError


def test_exceeding_the_time_limit_is_an_error():
    start = time.monotonic()
    with pytest.raises(CompileError, match=r"LLVM exceeded the time limit of 0.4 s \(for x86-64\)"):
        aot.compile(SLOW, BASELINE, time_limit=0.4)
    assert time.monotonic() - start < 5
    compile_fine()


def test_exceeding_the_memory_limit_is_an_error():
    with pytest.raises(CompileError, match="LLVM exceeded the memory limit of 64 MiB"):
        aot.compile(HUGE, BASELINE, memory_limit=64 << 20)
    compile_fine()


def test_the_time_limit_is_that_of_all_attempts_together():
    compile_fine()
    start = time.monotonic()
    with pytest.raises(CompileError, match=r"limit of (2\.9\d|3) s .*; .* limit of 1\.\d+ s ") as caught:
        aot.compile(SLOW, Target.parse("x86-64-v3"), time_limit=6)
    assert time.monotonic() - start < 9
    assert "(for x86-64-v3)" in str(caught.value)
    assert "for x86-64)" in str(caught.value)


def test_without_a_lower_target_the_first_attempt_has_all_the_time():
    for options in ({"on_missing": "error"}, {}):
        compile_fine()
        target = Target.parse("x86-64-v3") if options else BASELINE
        with pytest.raises(CompileError, match=r"exceeded the time limit of 0\.3 s"):
            compile_quietly(SLOW, target, time_limit=0.3, **options)


def test_a_stopped_worker_is_replaced_soon(monkeypatch):
    compile_fine()
    pid = worker_pid()
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(client, "_ANSWER_SECONDS", 0.5)
    start = time.monotonic()
    compile_fine()
    assert worker_pid() != pid
    assert time.monotonic() - start < 10


def test_a_worker_that_is_stopped_during_a_job_ends_at_the_time_limit():
    compile_fine()
    threading.Timer(0.2, os.kill, (worker_pid(), signal.SIGSTOP)).start()
    start = time.monotonic()
    with pytest.raises(CompileError, match=r"exceeded the time limit of 0\.6 s"):
        aot.compile(SLOW, BASELINE, time_limit=0.6)
    assert time.monotonic() - start < 4


def test_waiting_for_other_threads_is_part_of_the_time():
    with client.worker(Deadline(None)), ThreadPoolExecutor(1) as pool:
        call = pool.submit(aot.compile, FINE, BASELINE, time_limit=0.2)
        with pytest.raises(
            CompileError, match=r"other threads kept the worker process for LLVM for longer than 0\.2 s"
        ):
            call.result()


def test_decoding_what_llvm_made_is_part_of_the_time(monkeypatch):
    monkeypatch.setattr(Deadline, "left", lambda deadline: 0)
    with pytest.raises(CompileError, match=r"decoding LLVM's output exceeded the time limit of 9 s"):
        aot.compile(FINE, BASELINE, isolation="none", time_limit=9)


def test_a_limit_applies_to_one_call():
    compile_fine()
    pid = worker_pid()
    aot.compile(FINE, BASELINE, memory_limit=64 << 20)
    assert len(aot.compile(HUGE, BASELINE, memory_limit=None).object) > 1 << 28
    assert worker_pid() == pid


def test_a_worker_killed_between_calls_is_replaced():
    compile_fine()
    pid = worker_pid()
    os.kill(pid, signal.SIGKILL)
    compile_fine()
    assert worker_pid() != pid


def test_a_worker_killed_during_a_job_is_an_error():
    compile_fine()
    threading.Timer(0.5, os.kill, (worker_pid(), signal.SIGKILL)).start()
    with pytest.raises(CompileError, match="LLVM was killed by another process"):
        aot.compile(SLOW, BASELINE)
    compile_fine()


def test_an_interrupt_ends_the_job_but_not_the_next_one():
    def interrupt(*_):
        raise KeyboardInterrupt

    compile_fine()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            aot.compile(SLOW, BASELINE)
    finally:
        signal.signal(signal.SIGALRM, before)
    compile_fine()


def test_threads_take_turns_with_one_worker():
    with ThreadPoolExecutor(8) as pool:
        modules = [f"define void @thread{index}() {{ ret void }}" for index in range(24)]
        artifacts = list(pool.map(lambda module: aot.compile(module, BASELINE), modules))
    assert all(f"thread{index}" in symbols(artifact.object) for index, artifact in enumerate(artifacts))


def in_another_process(script, *arguments, **options):
    """Run Python without site-packages of its own: a caller that found cpufeat by altering sys.path."""
    setup = f"import sys; sys.path[:0] = {[str(PROJECT), *sys.path]!r}\nfrom cpufeat import Target, aot\n"
    command = [sys.executable, "-I", "-S", "-c", setup + script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_forked_child_starts_its_own_worker():
    script = f"""
import os
from cpufeat.aot.worker import client
aot.compile({FINE!r}, Target.parse("x86-64"))
worker = client._worker.pid
child = os.fork()
aot.compile({FINE!r}, Target.parse("x86-64"))
if child == 0:
    os._exit(client._worker.pid == worker)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
aot.compile({FINE!r}, Target.parse("x86-64"))
assert client._worker.pid == worker
"""
    assert in_another_process(script).communicate(timeout=60) == ("", "")


def runs(pid):
    """Whether a process is there, and not only its status, for want of someone who takes it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_worker_ends_with_its_parent_in_the_middle_of_a_job(end):
    script = f"""
from cpufeat.aot.worker import client
aot.compile({FINE!r}, Target.parse("x86-64"))
print(client._worker.pid, flush=True)
aot.compile(sys.argv[1], Target.parse("x86-64"))
"""
    with in_another_process(script, SLOW[:100_000].rpartition("define")[0]) as parent:
        worker = int(parent.stdout.readline())
        time.sleep(0.3)
        os.kill(worker, 0)
        parent.send_signal(end)
        parent.communicate()
    until = time.monotonic() + 5
    while time.monotonic() < until and runs(worker):
        time.sleep(0.02)
    assert not runs(worker)


def test_neither_the_current_folder_nor_pythonpath_is_searched(tmp_path, monkeypatch):
    for name in ("json", "struct", "queue", "llvmlite", "cpufeat", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    end_worker()
    compile_fine()


def test_the_worker_loads_the_copies_that_the_caller_found_by_an_altered_path(tmp_path):
    script = f"print(len(aot.compile({FINE!r}, Target.parse('x86-64')).object) > 0)"
    assert in_another_process(script, cwd=tmp_path).communicate(timeout=60) == ("True\n", "")


def test_a_worker_that_cannot_start_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "python3").symlink_to("/bin/false")
    end_worker()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "python3"))
        with pytest.raises(CompileError, match="worker process for LLVM did not start"):
            compile_fine()
    compile_fine()


@pytest.fixture
def application(tmp_path):
    """The path of a program that writes a file when it is started."""
    program = tmp_path / "application"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("executable", ["application", "gone/python3", ""])
def test_where_python_is_embedded_the_interpreter_of_its_installation_is_started(executable, application, monkeypatch):
    end_worker()
    monkeypatch.setattr(sys, "executable", executable and str(application.parent / executable))
    compile_fine()
    assert not application.with_name("started").exists()


def test_an_application_is_never_started_as_the_worker(application, tmp_path, monkeypatch):
    end_worker()
    monkeypatch.setattr(sys, "base_exec_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(application))
    with pytest.raises(CompileError, match=r'application is another program, .*: pass isolation="none"'):
        compile_fine()
    monkeypatch.setattr(sys, "executable", str(application.rename(tmp_path / "python3")))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(CompileError, match=r'python3 is another program, .*: pass isolation="none"'):
        compile_fine()
    assert not (tmp_path / "started").exists()
    assert aot.compile(FINE, Target.parse("x86-64"), isolation="none").object


HELLO = b'{"llvm": [22, 1, 0]}'


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack("<IQ", 1 << 31, 1 << 63),
        struct.pack("<IQ", 2, 0) + b"{}",
        struct.pack("<IQ", 25, 0) + b'{"requested_targets": {}}',
        struct.pack("<IQ", 15, 0) + b'{"error": "os"}',
        struct.pack("<IQ", 45, 0) + b'{"requested_targets": [7], "functions": null}',
    ],
)
def test_an_invalid_reply_is_an_error(answer, tmp_path, monkeypatch):
    impostor = tmp_path / "python"
    reply = struct.pack("<IQ", len(HELLO), 0) + HELLO + answer
    impostor.write_text(f"#!{sys.executable} -IS\nimport os, time; os.write(1, {reply!r}); time.sleep(60)\n")
    impostor.chmod(0o700)
    end_worker()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(impostor))
        with pytest.raises(CompileError, match="the worker process for LLVM sent an invalid reply"):
            compile_fine()
    compile_fine()


def test_without_isolation_there_is_no_worker():
    end_worker()
    artifact = aot.compile(ADD.replace("GROUP", ""), BASELINE, isolation="none")
    assert client._worker is None or client._worker._stdin.closed
    assert artifact == aot.compile(ADD.replace("GROUP", ""), BASELINE)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("opt", 4),
        ("opt", "2"),
        ("on_missing", "ignore"),
        ("isolation", "thread"),
        ("guard", "no"),
        ("dispatch", "table"),
    ],
)
def test_an_invalid_option_is_an_error_that_lists_the_valid_values(option, value):
    with pytest.raises((OptionError, TypeError), match=f"^{option} must be one of .*, not {value!r}$"):
        aot.compile(FINE, BASELINE, **{option: value})


def refused_or_compiled(module):
    try:
        assert compile_quietly(module, BASELINE, opt=0, time_limit=20, memory_limit=1 << 30).object[:4] == b"\x7fELF"
    except (CompileError, TargetError) as error:
        assert str(error)


WORDS = ["define void @f(", "i32 %a", ")", "{", "}", "ret", "void", "attributes #0", "=", '"', "target triple", "\n"]


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)))
@example("\0")
@example("\ud800")
@example("")
def test_no_text_harms_this_process(text):
    refused_or_compiled(text)


def bitcode():
    module = binding.parse_assembly(ADD.replace("GROUP", '"target-cpu"="haswell"') + FINE)
    return module.as_bitcode()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_bitcode_harms_this_process(data):
    mutated = bytearray(bitcode())
    changes = st.dictionaries(st.integers(4, len(mutated) - 1), st.integers(0, 255), min_size=1)
    for position, value in data.draw(changes).items():
        mutated[position] = value
    refused_or_compiled(bytes(mutated[: data.draw(st.integers(0, len(mutated)))]))


@given(st.binary())
@example(struct.pack("<IQ", 1 << 31, 0))
@example(struct.pack("<IQ", 2, 1 << 63) + b"{}")
@example(struct.pack("<IQ", 1 << 17, 0) + b"[" * (1 << 17))
@example(struct.pack("<IQ", 2, 0) + b"[]")
def test_an_invalid_message_is_an_error(content):
    with pytest.raises((EOFError, ValueError)):
        protocol.receive(io.BytesIO(content))


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.binary())
def test_messages_arrive_unchanged(header, content):
    pipe = io.BytesIO()
    protocol.send(pipe, header, content)
    pipe.seek(0)
    assert protocol.receive(pipe) == (header, content)


@given(st.integers(1, 40).flatmap(lambda count: st.tuples(st.just(count), st.integers(0, count - 1))))
def test_bisection_finds_the_failing_function_in_few_attempts(case):
    count, guilty = case
    attempts = []

    def attempt(first, end):
        attempts.append((first, end))
        return None if first <= guilty < end else [f"f{index}" for index in range(count)]

    assert failing_function(attempt, Deadline(60)) == f"f{guilty}"
    assert len(attempts) <= 1 + 2 * count.bit_length()


@pytest.mark.parametrize(
    "fails", [lambda first, end: True, lambda first, end: end - first == 4, lambda first, end: False]
)
def test_bisection_names_no_function_if_none_fails_alone(fails):
    names = ["a", "b", "c", "d"]
    assert failing_function(lambda first, end: None if fails(first, end) else names, Deadline(60)) is None
