"""Branches on what the CPU answers that say nothing of the feature behind them: the use is bare."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers.requirements import tool

import cpufeat
from cpufeat.detection.systems import ThisMachine

if TYPE_CHECKING:
    from pathlib import Path

    from cpufeat.auditing.report import FunctionNeeds

pytestmark = pytest.mark.skipif(ThisMachine().arch != "x86_64", reason="the programs ask CPUID")

PROGRAM = """
#include <cpuid.h>
#include <stdlib.h>
#include <sys/auxv.h>
#define ALONE __attribute__((noinline, noclone))
static volatile int sink;
ALONE static void use(void) { __asm__ volatile("vpaddd %ymm0, %ymm0, %ymm0"); }
ALONE static void plain(void) { sink++; }
"""
ASK = "unsigned a, b, c, d;"
BARE = {
    "the size of pages": "int main(void) { if (getauxval(AT_PAGESZ) == 4096) use(); else plain(); }",
    "whether the program has special rights": "int main(void) { if (getauxval(AT_SECURE)) plain(); else use(); }",
    "the size of a cache": f"""int main(int n) {{
        {ASK} __cpuid_count(4, 0, a, b, c, d); if (n > (int)c / 2) use(); else plain(); }}""",
    "the number of caches": f"""int main(void) {{
        {ASK} int n = 0;
        for (int i = 0;; i++) {{ __cpuid_count(4, i, a, b, c, d); if (!(a & 31)) break; n++; }}
        if (n) use();
    }}""",
    "the core": f"int main(void) {{ {ASK} __cpuid(1, a, b, c, d); if (b >> 24 < 64) use(); else plain(); }}",
    "the highest leaf": "int main(void) { if (__get_cpuid_max(0, 0) >= 7) use(); else plain(); }",
    "CPUID as fence": f"""
        static inline long now(void) {{ {ASK} __cpuid(0, a, b, c, d); return __builtin_ia32_rdtsc() + a; }}
        int main(void) {{ long start = now(); plain(); if (now() - start < 100000000) use(); }}""",
    "whether it is a guest": f"int main(void) {{ {ASK} __cpuid(1, a, b, c, d); if (c >> 31) use(); else plain(); }}",
    "a feature that must be missing": f"""int main(void) {{
        {ASK} __get_cpuid(1, &a, &b, &c, &d); if (c & bit_AVX) plain(); else use();
    }}""",
    "a stronger feature, without which the program uses this one": f"""static int have;
        ALONE static void better(void) {{ __asm__ volatile("vpaddd %zmm0, %zmm0, %zmm0"); }}
        ALONE static void ask(void) {{ {ASK} __cpuid_count(7, 0, a, b, c, d); have = b >> 16 & 1; }}
        int main(void) {{ ask(); if (have) better(); else use(); }}""",
    "a check that may never run": f"""static int have = 1;
        ALONE static void check(void) {{ {ASK} __cpuid_count(7, 0, a, b, c, d); if (!(b & bit_AVX2)) have = 0; }}
        int main(int n) {{ if (n > 1) check(); if (have) use(); else plain(); }}""",
    "a check that runs too late": f"""static int have = 1;
        __attribute__((destructor)) void check(void) {{ {ASK} __cpuid_count(7, 0, a, b, c, d); have = b >> 5 & 1; }}
        int main(void) {{ if (have) use(); else plain(); }}""",
}
SENTINEL = f"""static int have = -1;
    ALONE static int check(void) {{ {ASK} __cpuid_count(7, 0, a, b, c, d); return b >> 5 & 1; }}
    int main(void) {{ if (have < 0) have = check(); if (have > 0) use(); else plain(); }}"""
GUARDED = {
    "two bits": f"""int main(void) {{
        {ASK} __cpuid(1, a, b, c, d); if ((c & (bit_AVX | bit_FMA)) == (bit_AVX | bit_FMA)) use(); else plain();
    }}""",
    "two bits, one after the other": f"""int main(void) {{
        {ASK} __cpuid(1, a, b, c, d); if (!(c & bit_FMA) || !(c & bit_AVX)) plain(); else use();
    }}""",
    "a bit of a byte": f"int main(void) {{ {ASK} __cpuid(1, a, b, c, d); if (!(c & 0x1000)) plain(); else use(); }}",
    "one bit and not another": f"""int main(void) {{
        {ASK} __cpuid_count(7, 0, a, b, c, d); if (b & bit_AVX2) {{ if (b & bit_AVX512F) plain(); else use(); }}
    }}""",
    "whose CPU it is": f"""int main(void) {{
        {ASK} __cpuid(0, a, b, c, d); if (b == signature_AMD_ebx) use(); else plain();
    }}""",
    "a leaf that the caller names": f"""
        ALONE static int ask(int leaf) {{ {ASK} __cpuid_count(leaf, 0, a, b, c, d); return b; }}
        int main(void) {{ if (ask(7) & bit_AVX2) use(); else plain(); }}""",
    "the highest leaf, and then the one of the feature": f"""int main(void) {{
        {ASK} if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_AVX2) use(); else plain();
    }}""",
}


def use(source: str, level: str, folder: Path) -> FunctionNeeds:
    """What an audit says of the one function of a program that needs AVX2."""
    compiler = tool("gcc")
    (folder / "main.c").write_text(PROGRAM + source)
    subprocess.run([compiler, level, "-march=x86-64", "main.c", "-o", "main"], cwd=folder, check=True)
    (user,) = (function for function in cpufeat.audit(folder / "main").functions if "avx2" in function.uses)
    return user


@pytest.mark.parametrize("level", ["-O1", "-O2"])
@pytest.mark.parametrize("what", BARE)
def test_a_branch_on_an_answer_about_something_else_guards_nothing(what: str, level: str, tmp_path: Path) -> None:
    user = use(BARE[what], level, tmp_path)
    assert (user.guarded, list(user.bare)) == (False, ["avx2"])


@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2"])
@pytest.mark.parametrize("what", GUARDED)
def test_a_branch_on_an_answer_about_features_guards(what: str, level: str, tmp_path: Path) -> None:
    assert use(GUARDED[what], level, tmp_path).guarded


def test_an_answer_counts_at_once_wherever_it_is_kept(tmp_path: Path) -> None:
    """Optimized: not read back from where it may be the number that was there at first."""
    assert use(SENTINEL, "-O2", tmp_path).guarded


ADD = """{ __asm__ volatile("vpaddd %ymm1, %ymm0, %ymm0"); }"""
FIRST_OR_LAST = {
    "the direct one first": f"static void one(void) {ADD} ALONE static void deep(void) {ADD} ",
    "the direct one last": f"ALONE static void deep(void) {ADD} static void one(void) {ADD} ",
}


@pytest.mark.parametrize("order", FIRST_OR_LAST)
def test_all_functions_among_which_an_answer_selects_are_bare_if_each_needs_the_feature(
    order: str, tmp_path: Path
) -> None:
    """Whether the needs of one are found before or after those of the other, which come by a call."""
    main = f"""static void two(void) {{ deep(); sink++; }}
        int main(void) {{
            {ASK} void (*chosen)(void) = one; __cpuid(1, a, b, c, d); if (c & bit_SSE4_2) chosen = two; chosen(); }}"""
    (tmp_path / "main.c").write_text(PROGRAM + FIRST_OR_LAST[order] + main)
    subprocess.run([tool("gcc"), "-O1", "-march=x86-64", "main.c", "-o", "main"], cwd=tmp_path, check=True)
    users = [function for function in cpufeat.audit(tmp_path / "main").functions if "avx2" in function.uses]
    assert [list(user.bare) for user in users] == [["avx2"], ["avx2"]]
