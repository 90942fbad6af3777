"""The cache on disk: many processes, killed ones, full disks, damage, other users and little room.

And how ``aot.compile`` uses it.
"""

from __future__ import annotations

import errno
import hashlib
import inspect
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import llvmlite
import pytest
from helpers.paths import PROJECT

import cpufeat
from cpufeat import CompileError, CpufeatError, CpufeatWarning, Target, aot, tables
from cpufeat.aot.cache import fingerprint, store
from cpufeat.aot.cache.store import Cache, key
from cpufeat.aot.llvm.job import LimitError
from cpufeat.aot.options import Options
from cpufeat.aot.worker import client

if TYPE_CHECKING:
    from typing import Any

    from cpufeat.aot.llvm.job import Emitted, Job

KIB, MIB = 1 << 10, 1 << 20
KEY = key(b"one")


def is_whole(content: bytes, size: int) -> bool:
    """Whether it is one of those that ``WRITE`` puts: the same 8 bytes all along."""
    return content == content[:8] * (size // 8)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    folder = tmp_path / "cache"
    folder.mkdir(0o700)
    return Cache(str(folder))


def entries(cache: Cache) -> list[Path]:
    return sorted(path for path in Path(cache.folder).iterdir() if path.name != "written")


def process(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n{code}", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def succeeds(process: subprocess.Popen[bytes]) -> bytes:
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, b"")
    return out


def test_get_returns_what_was_put(cache: Cache) -> None:
    assert cache.get(KEY) is None
    for content in (b"", b"x", random.randbytes(3 * MIB)):
        cache.put(KEY, content)
        assert cache.get(KEY) == content
    assert cache.get(key(b"another")) is None
    assert [path.name for path in entries(cache)] == [KEY]


def test_a_key_depends_on_where_one_part_ends() -> None:
    parts = ((b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (b"", b"abc"), ())
    assert len({key(*part) for part in parts}) == len(parts)


def test_files_are_private_also_where_the_umask_is_open(cache: Cache) -> None:
    umask = os.umask(0)
    try:
        cache.put(KEY, b"x")
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in Path(cache.folder).iterdir()} == {0o600}


# --- damage


def damages(entry: bytes) -> dict[str, bytes]:
    flipped = {at: bytes([*entry[:at], entry[at] ^ 1, *entry[at + 1 :]]) for at in (0, 15, 16, 47, 48, 79, 80, -1)}
    cut = {size: entry[:size] for size in (0, 1, 16, 79, 80, len(entry) - 1)}
    return {
        **{f"bit flipped in byte {at}": damaged for at, damaged in flipped.items() if at >= 0},
        **{f"cut off after {size} bytes": damaged for size, damaged in cut.items()},
        "more than there was": entry + b"\0",
        "zeros, as after a loss of power": bytes(len(entry)),
    }


def test_a_damaged_entry_is_removed_and_never_used(cache: Cache) -> None:
    cache.put(KEY, b"content")
    (path,) = entries(cache)
    whole = path.read_bytes()
    for what, damaged in damages(whole).items():
        path.write_bytes(damaged)
        assert cache.get(KEY) is None, what
        assert not path.exists(), what
        cache.put(KEY, b"content")
        assert cache.get(KEY) == b"content"


def test_a_renamed_entry_is_not_taken_for_another(cache: Cache) -> None:
    cache.put(KEY, b"content")
    other = key(b"another")
    entries(cache)[0].rename(Path(cache.folder, other))
    assert (cache.get(other), cache.get(KEY)) == (None, None)


@pytest.mark.parametrize("kind", ["folder", "fifo", "dangling link", "link to an entry elsewhere"])
def test_only_regular_files_are_read_and_none_makes_it_hang(cache: Cache, tmp_path: Path, kind: str) -> None:
    cache.put(KEY, b"content")
    path = entries(cache)[0]
    elsewhere = path.rename(tmp_path / "elsewhere")
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(elsewhere if kind.startswith("link") else tmp_path / "nowhere")
    assert cache.get(KEY) is None
    cache.put(KEY, b"new")
    assert cache.get(KEY) == (None if kind == "folder" else b"new")


def test_an_entry_of_another_user_or_that_others_may_write_is_not_used(cache: Cache) -> None:
    cache.put(KEY, b"content")
    path = entries(cache)[0]
    path.chmod(0o602)
    assert cache.get(KEY) is None
    path.chmod(0o600)
    assert cache.get(KEY) == b"content"
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
        assert cache.get(KEY) is None


# --- many processes, and ones that end at any moment

WRITE = """
import time
from cpufeat.aot.cache.store import Cache, key
folder, limit, size, first, seconds = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
cache, until, number = Cache(folder, limit), time.monotonic() + seconds, first
sys.stdout.buffer.write(b"!"); sys.stdout.flush()
while time.monotonic() < until:
    name = key(str(number % 16).encode())
    got = cache.get(name)
    if got is not None and got != got[:8] * (size // 8):
        sys.exit("a part of an entry was seen")
    cache.put(name, number.to_bytes(8, "little") * (size // 8))
    number += 1
"""


def test_many_processes_never_see_part_of_an_entry_and_stay_within_the_limit(cache: Cache) -> None:
    size, limit = 96 * KIB, 1 * MIB  # fewer than the 16 keys: entries are dropped and written all the time
    writers = [process(WRITE, cache.folder, limit, size, first, 2) for first in range(4)]
    for writer in writers:
        succeeds(writer)
    assert entries(cache)
    assert all(is_whole(content, size) for path in entries(cache) if (content := cache.get(path.name)))
    assert sum(path.stat().st_size for path in entries(cache)) <= limit + len(writers) * size


def test_a_process_killed_at_any_moment_leaves_no_partial_entry(cache: Cache) -> None:
    size, limit, kills = 8 * MIB, 256 * MIB, 20
    luck = random.Random(1)
    for first in range(kills):
        writer = process(WRITE, cache.folder, limit, size, first * 1000, 60)
        assert writer.stdout
        assert writer.stdout.read(1) == b"!"
        time.sleep(luck.uniform(0, 0.05))
        writer.kill()
        assert writer.wait() == -signal.SIGKILL
        writer.communicate()
        for path in entries(cache):
            if "." not in path.name:
                content = cache.get(path.name)
                assert content is not None
                assert is_whole(content, size)
    left = [path for path in entries(cache) if "." in path.name]
    assert left, f"of {kills} kills none was in the middle of writing: this shows nothing"
    for path in left:
        os.utime(path, (time.time() - 7200,) * 2)
    small = cache.replace(limit=16 * MIB)
    small.put(KEY, b"content")
    assert [path for path in left if path.exists()] == []
    assert small.get(KEY) == b"content"


def test_a_forked_child_uses_the_cache(cache: Cache) -> None:
    cache.put(KEY, b"content")
    child = os.fork()
    if child == 0:
        cache.put(key(b"child"), cache.get(KEY) or b"")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert cache.get(key(b"child")) == b"content"


# --- no room


def test_the_least_recently_used_entries_are_evicted_first(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), 64 * KIB)
    keys = [key(bytes([number])) for number in range(40)]
    stranger = tmp_path / "a file of somebody's"
    stranger.write_bytes(bytes(MIB))
    for age, key_ in enumerate(keys):
        cache.put(key_, bytes(4000))
        os.utime(tmp_path / key_, (time.time() - 1000 + age,) * 2)
        assert cache.get(keys[0]) is not None
        assert sum(path.stat().st_size for path in tmp_path.glob("?" * 64)) <= cache.limit
    there = [key_ for key_ in keys if (tmp_path / key_).exists()]
    assert there == [keys[0], *keys[-len(there) + 1 :]]
    assert len(there) > 10
    assert stranger.exists()


def test_a_content_of_more_than_half_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), 64 * KIB)
    cache.put(KEY, bytes(4000))
    cache.put(key(b"large"), bytes(33 * KIB))
    assert [path.name for path in entries(cache)] == [KEY]


@pytest.mark.parametrize("counter", [b"", bytes(10**6), None], ids=["empty", "too long", "missing"])
def test_a_wrong_counter_is_corrected(tmp_path: Path, counter: bytes | None) -> None:
    cache = Cache(str(tmp_path), 256 * KIB)
    for number in range(20):
        cache.put(key(bytes([number])), bytes(4000))
    (tmp_path / "written").unlink()
    if counter is not None:
        (tmp_path / "written").write_bytes(counter)
    cache.put(KEY, bytes(4000))
    assert len(entries(cache)) == 21
    assert (tmp_path / "written").stat().st_size == 21


def test_if_a_file_may_not_grow_nothing_is_kept_and_nothing_raised(cache: Cache) -> None:
    cache.put(KEY, b"content")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * KIB, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            Path(cache.folder, "probe").write_bytes(bytes(100 * KIB))
        Path(cache.folder, "probe").unlink()
        cache.put(key(b"large"), bytes(100 * KIB))
        cache.put(KEY, bytes(100 * KIB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in entries(cache)] == [KEY]
    assert cache.get(KEY) == b"content"


def test_a_full_disk_keeps_old_entries_and_leaves_no_partial_one(tmp_path: Path) -> None:
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or not mount or not unmount:
        pytest.skip("needs root, to mount a small file system")
    command = [mount, "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(tmp_path)]
    mounting = subprocess.run(command, check=False, capture_output=True)
    if mounting.returncode:
        pytest.skip(f"may not mount: {mounting.stderr.decode().strip()}")
    try:
        cache = Cache(str(tmp_path))
        for number in range(64):
            cache.put(key(bytes([number])), bytes([number]) * 10_000)
        kept = [number for number in range(64) if cache.get(key(bytes([number]))) == bytes([number]) * 10_000]
        assert shutil.disk_usage(tmp_path).free < 16 * KIB
        assert 10 < len(kept) < 64
        assert len(entries(cache)) == len(kept)
    finally:
        subprocess.run([unmount, str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_written_is_still_read(cache: Cache) -> None:
    cache.put(KEY, b"content")
    reader = f"""
import os
from cpufeat.aot.cache.store import Cache, key
cache = Cache({cache.folder!r})
print(cache.get({KEY!r}))
cache.put(key(b"new"), b"x")
"""
    folder = Path(cache.folder)
    folder.chmod(0o500)
    try:
        if os.geteuid() != 0:
            assert succeeds(process(reader)) == b"b'content'\n"
            assert [path.name for path in entries(cache)] == [KEY]
    finally:
        folder.chmod(0o700)
    shutil.rmtree(folder)
    cache.put(KEY, b"gone")
    assert cache.get(KEY) is None


# --- which folder


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in (store.VARIABLE, store.SIZE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(store, "_warned", set())
    return monkeypatch


def test_the_default_folder_is_that_of_the_platform(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def chosen() -> Path:
        cache_ = store.from_environment()
        assert cache_
        return Path(cache_.folder)

    assert chosen() == tmp_path / ".cache" / "cpufeat"
    assert chosen().stat().st_mode & 0o777 == 0o700
    environment.setenv("XDG_CACHE_HOME", "relative")  # the specification: to be ignored
    assert chosen() == tmp_path / ".cache" / "cpufeat"
    environment.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert chosen() == tmp_path / "xdg" / "cpufeat"
    environment.setattr(sys, "platform", "darwin")
    assert chosen() == tmp_path / "Library" / "Caches" / "cpufeat"
    environment.setattr(sys, "platform", "win32")
    environment.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert chosen() == tmp_path / "Local" / "cpufeat" / "Cache"
    environment.setenv(store.VARIABLE, str(tmp_path / "mine"))
    assert chosen() == tmp_path / "mine"


def test_there_is_no_cache_if_it_is_turned_off(environment: pytest.MonkeyPatch) -> None:
    environment.setenv(store.VARIABLE, "0")
    assert store.from_environment() is None


def test_a_folder_that_cannot_be_made_is_said_if_it_was_asked_for(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    environment.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "folder"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.from_environment() is None
    environment.setenv(store.VARIABLE, str(tmp_path / "file" / "folder"))
    with pytest.warns(CpufeatWarning, match="CPUFEAT_CACHE=.*folder: no cache is used: Not a directory"):
        assert store.from_environment() is None


@pytest.mark.parametrize("value", ["1", "off", "false", "cache", "./cache"])
def test_another_value_is_an_error_that_names_it(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv(store.VARIABLE, value)
    with pytest.raises(CpufeatError, match=f"CPUFEAT_CACHE must be 0, .* or an absolute path, not '{value}'"):
        store.from_environment()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 1 << 30),
        ("0", 0),
        ("123456", 123456),
        ("64k", 64 * KIB),
        ("500M", 500 * MIB),
        ("3G", 3 << 30),
        ("2T", 2 << 40),
    ],
)
def test_the_limit_takes_units(environment: pytest.MonkeyPatch, text: str, size: int) -> None:
    environment.setenv(store.SIZE_VARIABLE, text)
    cache_ = store.from_environment()
    assert cache_
    assert cache_.limit == size
    cache_.put(KEY, b"content")
    assert (cache_.get(KEY) is not None) == bool(size)


@pytest.mark.parametrize("text", ["-1", "1GB", "much", "1e9", " 5", "9" * 40])
def test_a_bad_limit_is_an_error_that_names_it(environment: pytest.MonkeyPatch, text: str) -> None:
    environment.setenv(store.SIZE_VARIABLE, text)
    with pytest.raises(CpufeatError, match="CPUFEAT_CACHE_SIZE must be a number of bytes"):
        store.from_environment()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_refused_with_one_warning(
    environment: pytest.MonkeyPatch, tmp_path: Path, mode: int
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    environment.setenv(store.VARIABLE, str(folder))
    with pytest.warns(CpufeatWarning, match=rf"open: not used as a cache: .* written by others \(mode {mode:o}\)"):
        assert store.from_environment() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.from_environment() is None


def test_a_folder_of_another_user_is_refused(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a folder away")
    folder = tmp_path / "theirs"
    folder.mkdir(0o700)
    os.chown(folder, 12345, -1)
    environment.setenv(store.VARIABLE, str(folder))
    with pytest.warns(CpufeatWarning, match="belongs to another user"):
        assert store.from_environment() is None


# --- what compiles


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setattr(fingerprint, "_MIN_LLVM_SIZE", 100)
    monkeypatch.setattr(tables, "DATA", str(tmp_path / "data"))
    made = {name: tmp_path / name / "__init__.py" for name in ("llvmlite", "cpufeat", "data")}
    for path in made.values():
        path.parent.mkdir()
        path.write_text(f"# {path}")
        os.utime(path, (1e9, 1e9))
    library, table = tmp_path / "llvmlite" / "binding" / "libllvmlite.so", tmp_path / "data" / "x86" / "features.tsv"
    for path in (library, table):
        path.parent.mkdir()
        path.write_bytes(bytes(200))
        os.utime(path, (1e9, 1e9))
    return {**made, "library": library, "table": table}


def identity(cache: Cache, packages: dict[str, Path]) -> str:
    fingerprint.fingerprint.cache_clear()
    return fingerprint.fingerprint(cache, str(packages["llvmlite"]), str(packages["cpufeat"]), "x86")


def test_a_change_of_any_file_at_the_same_version_is_seen(cache: Cache, packages: dict[str, Path]) -> None:
    seen = {identity(cache, packages)}
    for age, path in enumerate(packages.values(), 1):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"?")  # of the same size
        os.utime(path, (1e9 + age,) * 2)
        seen.add(identity(cache, packages))
    (packages["cpufeat"].parent / "new.py").write_bytes(b"")
    os.utime(packages["cpufeat"].parent / "new.py", (1e9, 1e9))
    seen.add(identity(cache, packages))
    assert len(seen) == 1 + len(packages) + 1
    assert "" not in seen


def test_folders_that_do_not_affect_objects_are_left_out_by_path(cache: Cache, packages: dict[str, Path]) -> None:
    package = packages["cpufeat"].parent
    before = identity(cache, packages)
    for folder in ("cli", "__pycache__", "passes/__pycache__"):
        (package / folder).mkdir(parents=True)
        (package / folder / "new.py").write_bytes(b"")
    os.utime(packages["cpufeat"], (1e9, 1e9))
    assert identity(cache, packages) == before
    for folder in ("aot/ir", "aot/cli", "passes/machines", "tests"):
        (package / folder).mkdir(parents=True)
        (package / folder / "new.py").write_bytes(folder.encode())
        os.utime(package / folder / "new.py", (1e9, 1e9))
        after = identity(cache, packages)
        assert after not in ("", before)
        before = after


def test_equal_files_are_the_same_wherever_and_whenever_they_were_installed(
    cache: Cache, packages: dict[str, Path], tmp_path: Path
) -> None:
    before = identity(cache, packages)
    for path in packages.values():
        os.utime(path, (1.1e9, 1.1e9))
    assert identity(cache, packages) == before
    shutil.copytree(packages["llvmlite"].parent, tmp_path / "other" / "llvmlite")
    moved = {**packages, "llvmlite": tmp_path / "other" / "llvmlite" / "__init__.py"}
    for path in (tmp_path / "other").rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert identity(cache, moved) == before


def test_files_are_read_once_and_not_again_until_they_change(
    cache: Cache, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identity(cache, packages)
    monkeypatch.setattr(fingerprint, "_digest", lambda path: pytest.fail(f"{path} is read again"))
    assert identity(cache, packages) == before


def test_there_is_no_fingerprint_if_llvm_is_elsewhere_or_a_file_changed_since(
    cache: Cache, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(packages["cpufeat"])
    assert identity(cache, packages) == ""
    os.utime(packages["cpufeat"], (1e9, 1e9))
    assert identity(cache, packages) != ""
    monkeypatch.setattr(fingerprint, "_MIN_LLVM_SIZE", 1 << 20)
    assert identity(cache, packages) == ""


def test_this_installation_has_a_fingerprint(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "_LOADED", time.time_ns())
    fingerprint.fingerprint.cache_clear()
    told = fingerprint.fingerprint(cache, llvmlite.__file__, cpufeat.__file__, "x86")
    assert len(told) == hashlib.sha256().digest_size * 2


# --- what was compiled before

ADD = """
define i32 @add(i32 %a, i32 %b) {
  %c = add i32 %a, %b
  ret i32 %c
}
"""
ASKS_FOR_MORE = ADD.replace(") {", ') "target-features"="+avx512f" {')
V3 = Target.parse("x86-64-v3")
WITHOUT_EFFECT = {"module", "files", "isolation", "time_limit", "memory_limit"}
"""The parameters of compile that do not affect the object, and the module itself."""


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a cache that compile uses; the sources may be newer than this process."""
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "kept"))
    monkeypatch.setattr(fingerprint, "_LOADED", time.time_ns())
    fingerprint.fingerprint.cache_clear()
    return tmp_path / "kept"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that LLVM is given."""
    jobs: list[Job] = []
    emit = client.Worker.emit

    def counting(worker: client.Worker, job: Job, *arguments: Any) -> Emitted:
        jobs.append(job)
        return emit(worker, job, *arguments)

    monkeypatch.setattr(client.Worker, "emit", counting)
    return jobs


def artifacts_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if b"\x7fELF" in path.read_bytes()]


def test_the_second_time_nothing_is_compiled_and_the_same_comes_out(kept: Path, counted: list[Job]) -> None:
    first = aot.compile(ADD, V3)
    assert (len(counted), len(artifacts_in(kept))) == (1, 1)
    assert aot.compile(ADD, V3) == first
    assert len(counted) == 1


def test_another_compiler_makes_another_entry(kept: Path, counted: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    for digest in ("0" * 64, "1" * 64, "0" * 64):
        monkeypatch.setattr(fingerprint, "fingerprint", lambda *_, digest=digest: digest)
        aot.compile(ADD, V3)
    assert len(counted) == len(artifacts_in(kept)) == 2


def test_a_hit_starts_no_worker_and_does_not_load_llvm(kept: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
import time
from cpufeat import Target, aot
from cpufeat.aot.cache import fingerprint
fingerprint._LOADED = time.time_ns()
started = []
sys.addaudithook(lambda name, arguments: started.append(name) if name == "subprocess.Popen" else None)
aot.compile({ADD!r}, Target.parse("x86-64-v3"))
print(len(started), "llvmlite.binding" in sys.modules)
"""
    run = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert [process.stdout for process in run] == ["1 False\n", "0 False\n"]


def test_whatever_changes_the_object_makes_another_entry(kept: Path, counted: list[Job], tmp_path: Path) -> None:
    file, renamed = tmp_path / "one.ll", tmp_path / "two.ll"
    file.write_text(ADD)
    renamed.write_text(ADD)
    variants = {"target": None, "targets": ["x86-64-v3", "x86-64"]}
    asked: list[tuple[Any, dict[str, Any]]] = [
        (ADD, {}),
        (ADD + "; a comment", {}),
        (file, {}),
        (renamed, {}),
        (ADD, {"opt": 3}),
        (ADD, {"on_missing": "error"}),
        (ADD, {"guard": False}),
        (ADD, {"guard": "ask"}),
        (ADD, {"target": Target.parse("x86-64-v2")}),
        (ADD, {"target": Target.parse("x86-64-v3,+prefer_256_bit")}),
        (ADD, variants),
        (ADD, {**variants, "targets": ["x86-64-v2", "x86-64"]}),
        (ADD, {**variants, "dispatch": "pointer"}),
        (ADD, {**variants, "dispatch": "pointer", "runtime_override": True}),
    ]
    made = [aot.compile(module, **{"target": V3, **options}) for module, options in asked]
    assert len(counted) == len(artifacts_in(kept)) == len(asked)
    assert [aot.compile(module, **{"target": V3, **options}) for module, options in asked] == made
    assert len(counted) == len(asked)
    tried = {name for _, options in asked for name in options}
    parameters = inspect.signature(aot.compile).parameters.keys()
    assert tried | WITHOUT_EFFECT == parameters
    assert Options().affecting_the_object().keys() | WITHOUT_EFFECT | {"target", "targets"} == parameters


def test_an_artifact_has_the_decisions_of_its_own_resolution(
    kept: Path, counted: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    native = aot.compile(ADD, "x86-64-v2")
    monkeypatch.setenv("CPUFEAT_DISABLE", "avx512f")
    disabled = aot.compile(ADD, "x86-64-v2")
    assert native.target == disabled.target
    assert [decision.kind for decision in native.decisions] != [
        decision.kind for decision in disabled.decisions
    ] or not native.decisions
    assert [aot.compile(ADD, "x86-64-v2").decisions, len(counted)] == [disabled.decisions, 2]


def test_a_hit_warns_of_the_same_decisions(kept: Path, counted: list[Job]) -> None:
    for _ in range(2):
        with pytest.warns(CpufeatWarning, match="add: asks for avx512f, which the target does not permit") as said:
            artifact = aot.compile(ASKS_FOR_MORE, V3)
        assert [decision.kind for decision in artifact.decisions] == ["function"]
        assert Path(said[0].filename) == Path(__file__)
    assert len(counted) == 1
    with pytest.raises(CompileError, match="asks for avx512f"):
        aot.compile(ASKS_FOR_MORE, V3, on_missing="error")


def test_the_result_of_a_fallback_is_not_kept(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emit = client.Worker.emit

    def failing(worker: client.Worker, job: Job, *arguments: Any) -> Emitted:
        if job.cpu == V3.cpu:
            raise LimitError("LLVM exceeded the time limit of 1 s")
        return emit(worker, job, *arguments)

    monkeypatch.setattr(client.Worker, "emit", failing)
    with pytest.warns(CpufeatWarning, match="LLVM failed at this target"):
        assert aot.compile(ADD, V3).target.cpu == "x86-64-v2"
    assert artifacts_in(kept) == []
    monkeypatch.setattr(client.Worker, "emit", emit)
    assert aot.compile(ADD, V3).target == V3


def test_an_entry_with_other_content_is_replaced(kept: Path, counted: list[Job]) -> None:
    right = aot.compile(ADD, V3)
    (path,) = artifacts_in(kept)
    cache = Cache(str(kept))
    head = (cache.get(path.name) or b"").partition(b"\n")[0]
    other = aot.compile(ADD, Target.parse("x86-64-v2")).object
    stripped = right.object.replace(b"cpufeat\0", b"another\0")
    wrong = [b"", b"\n", b"[]\n" + right.object, b"7", head + b"\n" + other, head + b"\n" + stripped, head + b"\n"]
    for number, content in enumerate([*wrong, b"[" * 100_000 + b"\n" + right.object, b'["x", 1]\n' + right.object]):
        cache.put(path.name, content)
        assert aot.compile(ADD, V3) == right
        assert len(counted) == 3 + number
    assert aot.compile(ADD, V3) == right
    assert len(counted) == 2 + number + 1


def test_compilation_works_with_a_full_disk_and_without_a_cache(
    kept: Path, counted: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = aot.compile(ADD, V3)
    shutil.rmtree(kept)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        assert aot.compile(ADD, V3) == right
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in kept.iterdir() if path.name != "written"] == []
    monkeypatch.setenv(store.VARIABLE, "0")
    shutil.rmtree(kept)
    assert aot.compile(ADD, V3) == right
    assert not kept.exists()
    assert len(counted) == 3


def test_many_processes_may_compile_the_same_module_at_once(kept: Path) -> None:
    code = f"""
import hashlib, time
from cpufeat import Target, aot
from cpufeat.aot.cache import fingerprint
fingerprint._LOADED = time.time_ns()
for number in range(12):
    made = aot.compile({ADD!r} + f"; {{number % 4}}", Target.parse("x86-64-v3"))
    print(hashlib.sha256(made.object).hexdigest())
"""
    outputs = {succeeds(child) for child in [process(code) for _ in range(4)]}
    assert len(outputs) == 1
    assert len(artifacts_in(kept)) == 4
