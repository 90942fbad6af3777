"""Names, closure and comparison of features."""

from __future__ import annotations

import pytest

import cpufeat
from cpufeat import tables
from cpufeat.cpus import find_cpu, lookup
from cpufeat.features import KINDS, FeatureSet, find, implied, table
from cpufeat.request import parse

ARCHITECTURES = [arch for arch, *_ in tables.rows("architectures.tsv")]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("sse4_1", "sse4_1"),
        ("SSE4.1", "sse4_1"),
        ("has_avx512vnni", "avx512vnni"),
        ("avx512_vnni", "avx512vnni"),
        ("amx-int8", "amx_int8"),
        ("pni", "sse3"),
        ("abm", "lzcnt"),
        ("lahf_lm", "sahf"),
        ("cmpxchg16b", "cx16"),
        ("avx10.1-512", "avx10_1"),
        ("prefer-256-bit", "prefer_256_bit"),
    ],
)
def test_other_systems_spellings_are_found(spelling: str, name: str) -> None:
    assert find("x86_64", spelling).name == name


def test_every_spelling_in_the_table_is_found() -> None:
    for feature in table("x86_64").values():
        for spellings in feature.spellings.values():
            assert all(find("x86_64", spelling) for spelling in spellings if spelling != "!")


def test_an_unknown_name_raises_with_the_nearest() -> None:
    with pytest.raises(cpufeat.UnknownNameError, match=r"avx512vnn.*did you mean avx512vnni") as raised:
        find("x86_64", "avx512vnn")
    assert raised.value.nearest[0] == "avx512vnni"
    with pytest.raises(cpufeat.UnknownNameError, match="unknown x86 feature '!'"):
        find("x86_64", "!")
    with pytest.raises(cpufeat.UnknownNameError):
        FeatureSet("x86_64", ["neon"])


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("haswel", "haswell"),
        ("x86-64-v5", "x86-64-v4"),
        ("core2duo", "core2"),
        ("nativ", "native"),
        ("avx512_vni", "+avx512vnni"),
        ("avx2", "+avx2"),
        *((name, "") for name in ("cortex-a53", "pwr9", "itanium", "frobnicate", "x")),
    ],
)
def test_a_suggestion_is_what_a_misspelt_request_may_have_meant(typo: str, meant: str) -> None:
    with pytest.raises(cpufeat.UnknownNameError) as raised:
        parse(typo, "x86_64")
    assert raised.value.nearest[:1] == ((meant,) if meant else ())


def test_nothing_is_suggested_twice_in_different_spellings() -> None:
    for typo in ("avx512_vnn", "sse4_11", "avx512_bf1", "sha_n", "bm1"):
        with pytest.raises(cpufeat.UnknownNameError) as raised:
            find("x86_64", typo)
        suggested = [find("x86_64", spelling).name for spelling in raised.value.nearest]
        assert suggested
        assert len(set(suggested)) == len(suggested), raised.value
    with pytest.raises(cpufeat.UnknownNameError) as raised:
        find_cpu("x86_64", "corei7-avx5")
    names = [lookup("x86_64", spelling) for spelling in raised.value.nearest]
    assert len(set(names)) == len(names) > 1


def test_closing_adds_what_a_feature_depends_on() -> None:
    assert {"avx512f", "avx2", "avx", "sse2"} <= FeatureSet("x86_64", ["avx512vnni"]).closed().names


def test_removing_takes_along_what_depends_on_it() -> None:
    full = FeatureSet("x86_64", ["avx512vnni", "bmi2", "vaes"]).closed()
    left = full.without(["avx2"])
    assert "bmi2" in left
    assert "avx" in left
    assert not left.names & {"avx2", "avx512f", "avx512vnni", "vaes"}
    assert left == left.closed()


def test_sets_compare_and_combine() -> None:
    small, large = FeatureSet("x86_64", ["sse3"]).closed(), FeatureSet("x86_64", ["avx"]).closed()
    assert small < large
    assert small <= large
    assert small & large == small
    assert small | large == large
    assert "avx" in large - small
    assert hash(small) == hash(FeatureSet("x86_64", ["sse3", "sse2", "sse"]))
    assert list(large) == [name for name in table("x86_64") if name in large]


@pytest.mark.parametrize("spelling", ["sse4.1", "SSE4_1", "sse4_1", "has_sse4.1"])
def test_every_spelling_of_a_feature_is_in_a_set_that_has_it(spelling: str) -> None:
    assert spelling in FeatureSet("x86_64", ["sse4_1"])
    assert spelling not in FeatureSet("x86_64", ["avx"])
    assert FeatureSet("x86_64", [spelling, "avx512_vnni"]).names == {"sse4_1", "avx512vnni"}
    assert FeatureSet("x86_64", ["sse4_1", "popcnt"]).without([spelling]).names == {"popcnt"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_spelling_in_the_tables_is_in_the_set_of_all_features(arch: str) -> None:
    every = FeatureSet(arch, table(arch))
    known = [name for feature in table(arch).values() for names in feature.spellings.values() for name in names]
    assert [name for name in known if name != "!" and name not in every] == []
    assert all(name in every for name in table(arch))


def test_looking_up_what_is_no_feature_raises() -> None:
    features = FeatureSet("x86_64", ["avx2"])
    for unknown in ("avx22", "neon", "", "AVX 2"):
        with pytest.raises(cpufeat.UnknownNameError, match="unknown x86 feature"):
            _ = unknown in features
        with pytest.raises(cpufeat.UnknownNameError, match="unknown x86 feature"):
            features.without([unknown])
        with pytest.raises(cpufeat.UnknownNameError, match="unknown x86 feature"):
            FeatureSet("x86_64", [unknown])
    for wrong in (5, None, b"avx2", ["avx2"]):
        with pytest.raises(TypeError, match="a feature must be its name, a str, not"):
            _ = wrong in features


def test_kinds_are_those_of_the_tables() -> None:
    kinds = {feature.kind for arch in ARCHITECTURES for feature in table(arch).values()}
    assert kinds == set(KINDS)
    with pytest.raises(cpufeat.OptionError, match=r"a kind must be one of 'isa', .*, not 'ISA'"):
        FeatureSet("x86_64").of_kind("ISA")


def test_sets_do_not_change() -> None:
    features = FeatureSet("x86_64", ["sse3"])
    with pytest.raises(AttributeError):
        features.names = frozenset()


def test_implications_have_no_cycle() -> None:
    for name in table("x86_64"):
        assert not [other for other in implied("x86_64", name) if other != name and name in implied("x86_64", other)]
