"""What the sizes in CPUID leaf D prove of XCR0: never more than it was, and on real layouts all of it.

Layouts: offsets and lengths that leaf D tells of Skylake-SP (Intel) and Zen 4 (AMD), as in the collections' dumps.
"""

from __future__ import annotations

import random

import pytest
from helpers.corpora import needs_corpora
from helpers.machines import INTEL, leaves
from helpers.paths import CORPUS, MACHINES

from cpufeat import tables
from cpufeat.detection import dumps, xsave_area
from cpufeat.detection.cpuid import OSXSAVE, Cpuid
from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording

Layout = dict[int, tuple[int, int]]
INTEL_AREA: Layout = {
    2: (256, 576), 3: (64, 960), 4: (64, 1024), 5: (64, 1088), 6: (512, 1152), 7: (1024, 1664), 9: (8, 2688),
    17: (64, 2752), 18: (8192, 2816),
}  # fmt: skip
APX_AREA: Layout = {**{bit: place for bit, place in INTEL_AREA.items() if bit not in (3, 4)}, 19: (128, 960)}
AMD_AREA: Layout = {2: (256, 576), 5: (64, 832), 6: (512, 896), 7: (1024, 1408), 9: (8, 2432)}
BULLDOZER_AREA: Layout = {2: (256, 576), 62: (128, 832)}
AREAS = [INTEL_AREA, APX_AREA, AMD_AREA, BULLDOZER_AREA]
SUPERVISOR = {8: 128, 11: 16, 12: 24, 15: 808}
ALIGNED = {18}
AVX, AVX512, PKRU, AMX = 1 << 2, 0b111 << 5, 1 << 9, 0b11 << 17
NEEDS = {5: 0b11100100, 6: 0b11100100, 7: 0b11100100, 3: 0b11000, 4: 0b11000, 17: AMX, 18: AMX}


def leaf_d(area: Layout, xcr0: int, xss: int = 0, *, features: int = 0b1111) -> dict[int, tuple[int, int, int, int]]:
    """Leaf D of a processor with these components, by its subleaves, where these states are enabled (SDM, CPUID)."""
    supported = 3 | sum(1 << bit for bit in area)
    chosen = {bit: place for bit, place in area.items() if xcr0 >> bit & 1}
    size = max((length + offset for length, offset in chosen.values()), default=576)
    largest = max(length + offset for length, offset in area.values())
    compacted = 576
    lengths = {bit: length for bit, (length, _) in chosen.items()}
    lengths |= {bit: length for bit, length in SUPERVISOR.items() if features & 8 and xss >> bit & 1}
    for bit, length in sorted(lengths.items()):
        compacted = (compacted + 63) // 64 * 64 if bit in ALIGNED else compacted
        compacted += length
    told = features & 0b1010
    return {
        0: (supported & 0xFFFFFFFF, size, largest, supported >> 32),
        1: (features, compacted if told else 0, sum(1 << bit for bit in SUPERVISOR) if features & 8 else 0, 0),
        **{bit: (length, offset, 2 * (bit in ALIGNED), 0) for bit, (length, offset) in area.items()},
        **{bit: (length, 0, 1, 0) for bit, length in SUPERVISOR.items()},
    }


def valid(area: Layout, wanted: int) -> int:
    """The largest value of XCR0 in ``wanted`` that XSETBV takes."""
    bits = [bit for bit in area if wanted >> bit & 1]
    return 3 | sum(1 << bit for bit in bits if not NEEDS.get(bit, 0) & ~wanted)


@pytest.mark.parametrize("area", AREAS)
def test_no_more_is_inferred_than_was_enabled(area: Layout) -> None:
    """With all subleaves or some, sizes of every kind, and the numbers that a dump gives to lines without any."""
    chosen = random.Random(1)
    for _ in range(400):
        xcr0 = valid(area, chosen.getrandbits(64))
        told = leaf_d(area, xcr0, chosen.getrandbits(16), features=chosen.choice((0, 1, 7, 15)))
        kept = {bit: words for bit, words in told.items() if bit == 0 or chosen.random() < 0.7}
        for answers in (told, kept, dict(enumerate(told.values())), dict(enumerate(kept.values()))):
            found = xsave_area.enabled(answers.get)
            assert not found & ~xcr0, f"{found:#x} of {xcr0:#x}: {answers}"


@pytest.mark.parametrize("area", AREAS)
def test_a_component_that_is_not_listed_proves_no_other_one(area: Layout) -> None:
    chosen = random.Random(2)
    for _ in range(50):
        xcr0 = valid(area, chosen.getrandbits(64))
        told = {bit: words for bit, words in leaf_d(area, xcr0).items() if bit != 1}
        low, size, largest, high = told[0]
        for bit in area:
            less = (low & ~(1 << bit), size, largest, high & ~(1 << bit - 32) if bit > 31 else high)
            for answers in ({**told, 0: less}, {0: less}):
                assert not xsave_area.enabled(answers.get) & ~xcr0, (hex(xcr0), bit)


@pytest.mark.parametrize(
    ("area", "xcr0"),
    [
        (INTEL_AREA, 3),
        (INTEL_AREA, 3 | AVX),
        (INTEL_AREA, 3 | AVX | 0b11000),
        (INTEL_AREA, 3 | AVX | AVX512),
        (INTEL_AREA, 3 | AVX | AVX512 | PKRU),
        (INTEL_AREA, 3 | PKRU),
        (INTEL_AREA, 3 | AVX | AVX512 | AMX),
        (APX_AREA, 3 | AVX | 1 << 19),
        (AMD_AREA, 3 | AVX | AVX512 | PKRU),
        (BULLDOZER_AREA, 3 | AVX),
    ],
)
def test_both_sizes_prove_all_that_was_enabled(area: Layout, xcr0: int) -> None:
    """But for SSE alone, which needs no size, and which nothing needs alone."""
    assert xsave_area.enabled(leaf_d(area, xcr0).get) | 3 == xcr0


def test_avx_is_proven_without_any_subleaf() -> None:
    """SDM volume 1, 13.4: with AVX alone, the area ends where AVX does, at 576 + 256."""
    for area in AREAS:
        with_avx, without = (leaf_d(area, xcr0)[0] for xcr0 in (3 | AVX, 3))
        assert xsave_area.enabled({0: with_avx}.get) == 3 | AVX
        assert xsave_area.enabled({0: without}.get) == 1


def test_a_component_beyond_avx_does_not_prove_avx() -> None:
    """A kernel with ``clearcpuid=avx`` enables PKRU and no AVX."""
    told = leaf_d(INTEL_AREA, 3 | AVX | AVX512 | PKRU)
    assert xsave_area.enabled(told.get) & (AVX | AVX512)
    assert not xsave_area.enabled({bit: words for bit, words in told.items() if bit != 1}.get) & (AVX | AVX512)


def test_avx512_proves_avx_which_xsetbv_demands_with_it() -> None:
    area = {bit: place for bit, place in INTEL_AREA.items() if bit in (2, 5, 6, 7)}
    told = leaf_d(area, 3 | AVX | AVX512)[0]
    assert xsave_area.enabled({0: told}.get) == 3 | AVX | AVX512


def test_sizes_that_nothing_gives_prove_nothing() -> None:
    told = leaf_d(INTEL_AREA, 3 | AVX)
    assert xsave_area.enabled({**told, 0: (told[0][0], 833, 0, 0)}.get) == 1
    assert xsave_area.enabled({**told, 1: (0b1111, 577, 0, 0)}.get) == 1
    assert xsave_area.enabled({0: (0xFFFFFFFF, 832, 0, 0xFFFFFFFF)}.get) == 1, "too many to try"
    assert xsave_area.enabled(lambda _: None) == 1


def test_the_table_has_the_lengths_of_real_layouts() -> None:
    rows = {int(bit): (int(length), int(offset or 0)) for bit, length, offset, *_ in tables.rows("x86/components.tsv")}
    for area in AREAS:
        for bit, (length, offset) in area.items():
            assert rows[bit] == (length, offset if bit == 2 else 0)
    assert {bit: rows[bit][0] for bit in SUPERVISOR} == SUPERVISOR


def test_recordings_prove_their_own_xcr0() -> None:
    """But for what lies below PKRU where QEMU tells no compacted size."""
    for path in sorted(MACHINES.glob("*.json")):
        machine = dumps.load(str(path))[1]
        if machine.xcr0 is not None:
            leaf_d = {subleaf: words for (leaf, subleaf), words in machine.leaves[0].items() if leaf == 0xD}
            found = xsave_area.enabled(leaf_d.get)
            assert not found & ~machine.xcr0, path.name
            assert found | 3 == machine.xcr0 or path.stem == "qemu-max"


def test_unnumbered_and_empty_subleaves_lose_no_feature_of_avx() -> None:
    whole = leaves(INTEL, 6, 58, 9, {"avx", "f16c", "xsave"})
    area = {2: INTEL_AREA[2]}
    told = leaf_d(area, 3 | AVX, features=1)
    empty = {(0xD, bit): (0, 0, 0, 0) for bit in range(1, 8)}
    for subleaves in (
        {(0xD, bit): words for bit, words in told.items()},
        {(0xD, 0): told[0], (0xD, 1): told[2]},
        {**empty, (0xD, 0): told[0]},
    ):
        detected = detect(Recording(leaves={0: {**whole, **subleaves}}))
        assert {"avx", "f16c", "xsave"} <= detected.features.names
        assert detected.states == ("xsave", "avx")


@needs_corpora
def test_dumps_of_others_have_avx_where_their_sizes_prove_it() -> None:
    """Of libcpuid's dumps that report AVX, eight do not prove it: two are from before AVX was enabled."""
    without = []
    for path in sorted(CORPUS.glob("*/*.cpuid")):
        machine = dumps.load(str(path))[1]
        cpuid = Cpuid(machine)
        reports_avx = cpuid.holds(OSXSAVE) and cpuid.holds("1.0:ECX[28]")
        if reports_avx and "avx" not in detect(machine).features:
            without.append(cpuid.value("D.0:EBX[0-31]"))
            assert not cpuid.holds("D.1:EBX[0-31]") or cpuid.value("D.0:EBX[0-31]") == 576, path.name
    assert sorted(without) == [576, 576, 1088, 1088, 1088, 1088, 2440, 2688]
