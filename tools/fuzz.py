"""Feed mutated files to every reader: ``python tools/fuzz.py [--cases 20000] [--seed N] [--only NAME]``.

The files to mutate are made here: objects, libraries and programs of each format by cpufeat's compiler and Zig's
linker, archives and universal binaries of these, dumps of machines, and recordings. Each case is given by a number and
the seed, and runs in a worker process that may take 5 seconds of a processor and a gigabyte. A case fails if the worker
dies, takes longer or needs more, or if the reader raises anything but an error of cpufeat's or an OSError.

    python tools/fuzz.py --case 1234 --keep DIR      run one case here, with its traceback, and keep the file

Exit status 1 if a case fails.
"""

from __future__ import annotations

import argparse
import functools
import os
import pickle
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.dumps import EXAMPLES  # noqa: E402

import cpufeat  # noqa: E402
from cpufeat import CpufeatError, Target, aot  # noqa: E402
from cpufeat.aot.toolchain import zig  # noqa: E402
from cpufeat.detection import dumps  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CPU_SECONDS, MEMORY = 5, 1 << 30
"""What a case may take of the processor, and of memory in bytes."""
_WALL_SECONDS = 120.0
"""Time after which a worker that does not use the processor is taken to wait for something."""
_BATCH = 2000
"""Cases of one worker process."""

# --- the files to mutate

MODULE = """
@table = constant [3 x ptr] [ptr @first, ptr @second, ptr @third]
@zeros = internal global [64 x i32] zeroinitializer
@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 65535, ptr @start, ptr null }]
define internal void @start() uwtable { store i32 7, ptr @zeros
  ret void }
define i32 @first(i32 %a, ptr %p) uwtable { %v = load <16 x i32>, ptr %p
  %w = mul <16 x i32> %v, %v
  store <16 x i32> %w, ptr %p
  %b = call i32 @second(i32 %a)
  ret i32 %b }
define i32 @second(i32 %a) uwtable {
  switch i32 %a, label %other [i32 0, label %one i32 1, label %two i32 2, label %three i32 3, label %four]
one: ret i32 77
two: %x = load i32, ptr @zeros
  ret i32 %x
three: ret i32 5
four: ret i32 -9
other: %i = and i32 %a, 2
  %f = getelementptr ptr, ptr @table, i32 %i
  %g = load ptr, ptr %f
  %r = call i32 %g(i32 %i, ptr @zeros)
  ret i32 %r }
define i32 @third(i32 %a) { ret i32 %a }
"""
"""Vectors, a jump table, a table of functions, a constructor, and frames to unwind."""
TRIPLES = {
    "x86_64-unknown-linux-gnu": "x86-64-v3",
    "i686-unknown-linux-gnu": "x86-64-v2",
    "aarch64-unknown-linux-gnu": "armv8.2-a,+sve",
    "x86_64-pc-windows-gnu": "x86-64-v3",
    "aarch64-pc-windows-gnu": "armv8.2-a",
    "x86_64-apple-macosx11.0": "x86-64-v3",
    "arm64-apple-macosx11.0": "armv8.4-a",
}
LINKED = {"linux": [], "windows": ["-Wl,--no-entry", "-lkernel32"], "macosx": []}
"""System -> the options to link a library with Zig, beyond those of all."""
IMPORT = """
declare i32 @GetTickCount()
define i32 @ticks() { %r = call i32 @GetTickCount()
  ret i32 %r }
"""


class Sample(NamedTuple):
    """A file, and what reads it."""

    name: str
    content: bytes
    reader: str


def corpus() -> list[Sample]:
    """Return the files to mutate."""
    objects = {triple: _compiled(triple, request) for triple, request in TRIPLES.items()}
    linked = {triple: _linked(triple, request) for triple, request in TRIPLES.items()}
    binaries = [(f"{triple}.o", code) for triple, code in objects.items()]
    binaries += [(f"{triple}.so", code) for triple, code in linked.items()]
    small = [code for _, code in binaries if len(code) < 1 << 16][:4]
    binaries += [("gnu.a", _archive(small)), ("import.lib", _archive([_import_object(), *small[:1]]))]
    binaries += [("fat", _universal([objects["x86_64-apple-macosx11.0"], objects["arm64-apple-macosx11.0"]]))]
    variants = aot.compile(MODULE.replace("i32 65535, ptr @start", "i32 1, ptr null"), targets=["x86-64-v3", "x86-64"])
    plain = "\n".join(line for line in MODULE.splitlines() if "@llvm.global_ctors" not in line)
    loaded = [
        aot.compile(plain, Target.parse("x86-64", "x86_64-unknown-linux-gnu"), guard=guard) for guard in (True, False)
    ]
    samples = [Sample(name, code, reader) for name, code in binaries for reader in ("audit", "check", "notes")]
    samples += [
        Sample(f"loaded{index}.o", artifact.object, "load") for index, artifact in enumerate([*loaded, variants])
    ]
    texts = [text for format_ in EXAMPLES.values() for text in format_]
    texts += [path.read_text() for path in sorted((ROOT / "data" / "machines").glob("*.json"))[:4]]
    return samples + [Sample(f"dump{index}", text.encode(), "dump") for index, text in enumerate(texts)] * 2


def _compiled(triple: str, request: str) -> bytes:
    return aot.compile(MODULE, Target.parse(request, triple)).object


def _linked(triple: str, request: str) -> bytes:
    """Return a library that needs no library, but for one function of Windows."""
    system = next(system for system in LINKED if system in triple)
    module = MODULE + IMPORT if system == "windows" else MODULE
    with tempfile.TemporaryDirectory() as folder:
        aot.compile(module, Target.parse(request, triple), guard=False).save(Path(folder, "one.o"))
        command = [*zig.compiler(triple), "-shared", "-nostdlib", *LINKED[system], "one.o", "-o", "linked"]
        environment = zig.environment(Path(folder, "cache"))
        subprocess.run(command, cwd=folder, env=environment, check=True)
        return Path(folder, "linked").read_bytes()


def _archive(members: list[bytes]) -> bytes:
    parts = [b"!<arch>\n", _member(b"//", b"a-name-that-is-too-long.o/\n")]
    parts += [_member(b"/0" if index == 1 else b"m%d.o/" % index, code) for index, code in enumerate(members)]
    return b"".join(parts)


def _member(name: bytes, content: bytes) -> bytes:
    header = name.ljust(16) + b"0".ljust(12) + b"0".ljust(6) * 2 + b"644".ljust(8) + b"%d".ljust(9) % len(content)
    return header[:48] + b"%-10d`\n" % len(content) + content + b"\n" * (len(content) % 2)


def _universal(parts: list[bytes]) -> bytes:
    head, body = b"\xca\xfe\xba\xbe" + struct.pack(">I", len(parts)), b""
    for cpu, part in zip((0x01000007, 0x0100000C), parts, strict=True):
        offset = 4096 + len(body)
        head += struct.pack(">5I", cpu, 0, offset, len(part), 12)
        body += part.ljust(-(-len(part) // 4096) * 4096, b"\0")
    return head.ljust(4096, b"\0") + body


def _import_object() -> bytes:
    names = b"function\0library.dll\0"
    return struct.pack("<2H2H2I2H", 0, 0xFFFF, 0, 0x8664, 0, len(names), 0, 4) + names


# --- mutations

INTERESTING = (0, 1, 2, 3, 4, 7, 8, 16, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
               0x100000000, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return a file with one to five changes."""
    changed = bytearray(content)
    changes = TEXT_CHANGES if content[:1].isascii() and b"\0" not in content else BINARY_CHANGES
    for _ in range(chance.choice((1, 1, 2, 3, 5))):
        chance.choice(changes)(changed, chance)
    return bytes(changed)


def _place(changed: bytearray, chance: random.Random) -> int:
    """Return an offset, more often near the start or the end, where headers are."""
    size = len(changed) or 1
    near = chance.random()
    return (
        chance.randrange(min(size, 1024) if near < 0.45 else size)
        if near < 0.75
        else max(0, size - 1 - chance.randrange(4096))
    )


def _number(changed: bytearray, chance: random.Random) -> None:
    """Write a number of 1, 2, 4 or 8 bytes, aligned, in either byte order: an interesting, a near or any one."""
    width = chance.choice((1, 2, 4, 4, 8))
    at = _place(changed, chance) // width * width
    order = chance.choice(("little", "little", "little", "big"))
    old = int.from_bytes(changed[at : at + width], order)  # type: ignore[arg-type]
    near = old + chance.choice((-8, -4, -1, 1, 4, 8, len(changed)))
    value = chance.choice(
        (chance.choice(INTERESTING), near, near, chance.getrandbits(64), chance.randrange(len(changed) + 1))
    )
    changed[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]


def _bit(changed: bytearray, chance: random.Random) -> None:
    if changed:
        changed[min(_place(changed, chance), len(changed) - 1)] ^= 1 << chance.randrange(8)


def _copy(changed: bytearray, chance: random.Random) -> None:
    """Copy a row of a table over another."""
    width = chance.choice((8, 16, 18, 20, 24, 40, 64, 68, 80))
    source, at = _place(changed, chance) // width * width, _place(changed, chance) // width * width
    changed[at : at + width] = changed[source : source + width]


def _cut(changed: bytearray, chance: random.Random) -> None:
    del changed[_place(changed, chance) :]


def _resize(changed: bytearray, chance: random.Random) -> None:
    at, size = _place(changed, chance), chance.choice((1, 2, 4, 8, 64, 4096))
    if chance.random() < 0.5:
        del changed[at : at + size]
    else:
        changed[at:at] = chance.choice((bytes(size), b"\xff" * size, changed[at : at + size]))


def _digits(changed: bytearray, chance: random.Random) -> None:
    """Replace digits in a text by others: a size, a name of a member, a number in a dump."""
    at = _place(changed, chance)
    end = at
    while end < len(changed) and changed[end : end + 1].isdigit():
        end += 1
    digits = chance.choice((b"-1", b"0", b"9" * (end - at or 1), b"18446744073709551616", b"-60", b"1_0", b" ", b"0x"))
    changed[at:end] = digits[: end - at] if chance.random() < 0.5 else digits


def _lines(changed: bytearray, chance: random.Random) -> None:
    """Repeat, remove or move lines, perhaps very often."""
    lines = bytes(changed).splitlines(keepends=True)
    at, line = chance.randrange(len(lines) + 1), chance.choice(lines or [b"\n"])
    times = chance.choice((0, 1, 2, 100, 20_000))
    added = chance.choice((line[:100], b"\n", b"\r", b"\x0b", b":\n", b"processor\t: 9\n", b"\n\n"))
    changed[:] = b"".join([*lines[:at], added * times, *lines[at + chance.randrange(3) :]])


def _nest(changed: bytearray, chance: random.Random) -> None:
    at = _place(changed, chance)
    changed[at:at] = chance.choice((b"[", b"{", b'{"a":', b"(", b'"')) * chance.choice((1, 3, 2000, 50_000))


BINARY_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_number,) * 6, _bit, _bit, _copy, _copy, _cut, _resize, _digits,
)  # fmt: skip
TEXT_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _bit, _copy, _cut, _resize, *(_digits,) * 3, *(_lines,) * 3, _nest,
)  # fmt: skip

# --- readers


def _load(content: bytes) -> None:
    aot.Artifact.open(content).load()


def _dump(content: bytes) -> None:
    _, machine = dumps.parse(content, "dump")
    cpufeat.detect(machine)


READERS: dict[str, Callable[[bytes], object]] = {
    "audit": cpufeat.audit,
    "check": functools.partial(cpufeat.check, on="x86-64-v2"),
    "notes": aot.Artifact.all_in,
    "load": _load,
    "dump": _dump,
}


def case(samples: list[Sample], seed: int, number: int) -> tuple[Sample, bytes]:
    """Return the sample of a case, and the mutated file."""
    chance = random.Random(f"{seed}:{number}")  # noqa: S311
    sample = chance.choice(samples)
    return sample, mutated(sample.content, chance)


def outcome(sample: Sample, content: bytes) -> str:
    """Read a file, and return ``read``, ``refused``, or the exception that should not have been raised."""
    try:
        READERS[sample.reader](content)
    except (CpufeatError, OSError):
        return "refused"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error!s:.150} ({Path(where.filename).name}:{where.lineno})".replace("\n", " ")
    return "read"


# --- processes


def work(file: str, seed: int, start: int, end: int) -> None:
    """Run cases in this process, within the limits, and print a line before and after each."""
    samples: list[Sample] = pickle.loads(Path(file).read_bytes())  # noqa: S301 - our own
    for sample in {sample.reader: sample for sample in samples}.values():
        outcome(sample, sample.content)  # load everything, before memory is limited
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for number in range(start, end):
        print(f"{number} begins", flush=True)
        sample, content = case(samples, seed, number)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        began = time.process_time()
        result = outcome(sample, content)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(f"{number} {time.process_time() - began:.3f} {sample.name} {sample.reader} {result}", flush=True)


class Result(NamedTuple):
    """The result of a case."""

    number: int
    seconds: float
    what: str
    """The sample and the reader."""
    result: str

    @property
    def failed(self) -> bool:
        """Whether it must be mended."""
        return self.result not in ("read", "refused")


def run(file: str, seed: int, cases: int) -> Iterator[Result]:
    """Yield the result of each case; a worker that dies is replaced."""
    start = 0
    while start < cases:
        command = [sys.executable, __file__, "--work", file, str(seed), str(start), str(min(start + _BATCH, cases))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as worker:
            assert worker.stdout is not None
            begun = start
            for line in _lines_in_time(worker):
                number, rest, *words = line.strip().split(maxsplit=3)
                begun = int(number)
                if words:
                    name, result = words[0], words[1].partition(" ")
                    yield Result(begun, float(rest), f"{name} {result[0]}", result[2])
                    start = begun + 1
            status = worker.wait()
        if status:
            ending = signal.Signals(-status).name if status < 0 else f"status {status}"
            yield Result(begun, float(CPU_SECONDS), "?", f"the process ended with {ending}")
            start = max(start, begun + 1)


def _lines_in_time(worker: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines of a worker; it is killed if there is none for too long."""
    import threading

    assert worker.stdout is not None
    while True:
        timer = threading.Timer(_WALL_SECONDS, worker.kill)
        timer.start()
        line = worker.stdout.readline()
        timer.cancel()
        if not line:
            return
        yield line


def main() -> None:
    """Run the cases and print those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000, help="the number of files (default: 20000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="samples whose name and reader (one.o audit) contain this")
    parser.add_argument("--case", type=int, help="run this case alone, in this process")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="write the files of failed cases there")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.work:
        file, seed, start, end = options.work
        work(file, int(seed), int(start), int(end))
        return
    os.environ.setdefault("CPUFEAT_CACHE", "0")
    samples = [sample for sample in corpus() if options.only in f"{sample.name} {sample.reader}"]
    if options.case is not None:
        sample, content = case(samples, options.seed, options.case)
        _keep(options.keep, options.case, content)
        print(sample.name, sample.reader, READERS[sample.reader](content))
        return
    sys.exit(_report(samples, options))


def _report(samples: list[Sample], options: argparse.Namespace) -> int:
    """Run all cases, print what failed and a summary, and return the exit status."""
    print(f"{len(samples)} files to mutate, of {sum(len(sample.content) for sample in samples)} bytes", flush=True)
    began, counts, slowest = time.monotonic(), Counter[str](), Result(0, 0.0, "", "")
    with tempfile.NamedTemporaryFile() as file:
        file.write(pickle.dumps(samples))
        file.flush()
        for result in run(file.name, options.seed, options.cases):
            counts["failed" if result.failed else result.result] += 1
            slowest = max(slowest, result, key=lambda result: result.seconds)
            if result.failed:
                print(f"case {result.number}: {result.what}: {result.result}", flush=True)
                _keep(options.keep, result.number, case(samples, options.seed, result.number)[1])
    print(", ".join(f"{count} {name}" for name, count in counts.items()), f"in {time.monotonic() - began:.0f} s")
    print(f"the slowest took {slowest.seconds:.2f} s: case {slowest.number}, {slowest.what}")
    return int(counts["failed"] > 0)


def _keep(folder: Path | None, number: int, content: bytes) -> None:
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(content)


if __name__ == "__main__":
    main()
