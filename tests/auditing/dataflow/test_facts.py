"""What is known of memory, of other files and of functions that answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import assemble

from cpufeat.auditing.dataflow.effects import Effects
from cpufeat.auditing.dataflow.facts import Facts
from cpufeat.auditing.dataflow.lattice import FACT, FACT_POINTER
from cpufeat.auditing.dataflow.queries import Queries
from cpufeat.auditing.formats.loader import images
from cpufeat.auditing.program.functions import Program
from cpufeat.auditing.program.references import architecture

if TYPE_CHECKING:
    from pathlib import Path

X86, ARM = "x86_64-linux-gnu", "aarch64-linux-gnu"


def program_of(text: str, triple: str, folder: Path) -> Program:
    (image,) = images(assemble(folder, text, triple=triple))
    how = architecture(image.arch)
    assert how
    return Program(image, how.lifter)


EXTERNAL = """
.globl f
.type f, @function
f: ret
.size f, .-f
.data
.quad __cpu_model, _rtld_global_ro, __x86_get_cpu_features, getauxval, puts
.type have, @object
have: .long 0, 7
.size have, 8
.type large, @object
large: .zero 4096
.size large, 4096
.zero 256
"""


@pytest.fixture
def known(tmp_path: Path) -> tuple[Program, Facts, dict[str, int]]:
    """A program, what is known of it at first, and the addresses of names."""
    program = program_of(EXTERNAL, X86, tmp_path)
    addresses = {name: address for address, name in program.image.externals.items()}
    addresses |= {symbol.name: symbol.address for symbol in program.image.symbols}
    return program, Facts(program, Queries(program)), addresses


Known = tuple[Program, Facts, dict[str, int]]


@pytest.mark.parametrize(
    ("name", "for_all", "for_resolvers"),
    [("__cpu_model", True, True), ("_rtld_global_ro", False, True), ("puts", False, False), ("have", False, False)],
)
def test_data_of_other_files_holds_facts_for_those_that_the_table_names(
    name: str, for_all: bool, for_resolvers: bool, known: Known
) -> None:
    _, facts, addresses = known
    assert facts.in_other_file(addresses[name], resolving=False) is for_all
    assert facts.in_other_file(addresses[name], resolving=True) is for_resolvers
    assert facts.in_memory(addresses[name], 4, resolving=False) is for_all
    assert facts.in_memory(addresses[name], 4, resolving=True) is for_resolvers


def test_a_call_of_a_function_in_the_table_returns_its_answers(known: Known) -> None:
    program, facts, addresses = known
    results = program.convention.results
    assert facts.of_call(addresses["__x86_get_cpu_features"], None) == (dict.fromkeys(results, FACT_POINTER), False)
    assert facts.of_call(addresses["getauxval"], 16) == (dict.fromkeys(results, FACT), False)
    assert facts.of_call(addresses["getauxval"], 6) == ({}, False), "AT_PAGESZ"
    assert facts.of_call(addresses["getauxval"], None) == ({}, False), "anything"
    assert facts.of_call(addresses["puts"], 16) == ({}, False)


def effects(**changes: object) -> Effects:
    shown = Effects()
    for name, value in changes.items():
        assert hasattr(shown, name)
        setattr(shown, name, value)
    return shown


def test_a_function_asks_if_it_is_in_the_table_or_was_seen_to(known: Known) -> None:
    program, facts, addresses = known
    (function,) = program.image.functions
    assert facts.asks(addresses["getauxval"])
    assert not facts.asks(addresses["puts"])
    assert not facts.asks(function.start)
    facts.add_results(function, effects(), resolving=False)
    assert not facts.asks(function.start)
    facts.add_results(function, effects(probes=True), resolving=False)
    assert facts.asks(function.start)


def test_results_are_handed_on_through_a_few_functions(known: Known) -> None:
    program, facts, _ = known
    (function,) = program.image.functions
    assert facts.add_results(function, effects(returned={1}, distance=4), resolving=False)
    assert facts.of_call(function.start, None) == ({1: FACT}, False)
    assert facts.distance(function.start) == 4
    assert not facts.add_results(function, effects(returned={1}, distance=4), resolving=False), "nothing is new"
    assert facts.add_results(function, effects(returned={1}, distance=5), resolving=False)
    assert facts.of_call(function.start, None) == ({}, False)


def test_what_a_resolver_returns_is_a_function_and_no_fact(known: Known) -> None:
    program, facts, _ = known
    (function,) = program.image.functions
    assert not facts.add_results(function, effects(returned={1}), resolving=True)
    assert facts.of_call(function.start, None) == ({}, False)


@pytest.mark.parametrize(("probes", "fills"), [(True, True), (False, False)])
def test_only_functions_that_ask_themselves_fill_memory(probes: bool, fills: bool, known: Known) -> None:
    program, facts, _ = known
    (function,) = program.image.functions
    assert facts.add_results(function, effects(fills=True, probes=probes), resolving=False) is fills
    assert facts.of_call(function.start, None) == ({}, fills)


def test_objects_have_the_size_of_their_symbol_up_to_a_limit(known: Known) -> None:
    _, facts, addresses = known
    have, large = addresses["have"], addresses["large"]
    assert facts.extent(have + 4) == (have, have + 8)
    assert facts.extent(large + 2000) == (large, large + 1024)
    assert facts.extent(large + 4096 + 8) == (large + 4096 + 8, large + 4096 + 8 + 64), "no symbol"


def test_all_bytes_of_a_number_that_is_not_zero_initially_are_found(known: Known) -> None:
    _, facts, addresses = known
    have, large = addresses["have"], addresses["large"]
    assert set(facts.nonzero_initially(range(have, have + 4))) == set()
    assert set(facts.nonzero_initially(range(have + 4, have + 8))) == set(range(have + 4, have + 8))
    assert set(facts.nonzero_initially(range(have, have + 8))) == set(range(have, have + 8))
    assert set(facts.nonzero_initially(range(large, large + 64))) == set()


def test_memory_that_gets_other_values_too_is_rejected_for_good(known: Known) -> None:
    _, facts, addresses = known
    have = addresses["have"]
    stored, place = set(range(have, have + 8)), {have}
    assert facts.add_memory(effects(stored=stored)) == stored
    assert facts.add_memory(effects(stored=stored)) == set(), "known already"
    assert facts.in_memory(have, 4, resolving=False)
    assert not facts.reject_mixed(), "nothing else is stored there"
    assert facts.add_memory(effects(mixed=place)) == set()
    assert facts.reject_mixed()
    assert not facts.in_memory(have + 4, 4, resolving=False), "all is found anew"
    assert facts.add_memory(effects(implied=stored)) == stored - place
    assert not facts.in_memory(have, 1, resolving=False)
    assert facts.in_memory(have, 2, resolving=False)
    assert not facts.reject_mixed(), "that was rejected before"


# --- what a file offers itself

OWN = """
.globl getauxval, elf_aux_info, puts
.type getauxval, {kind}function
getauxval: ret
.size getauxval, .-getauxval
.type elf_aux_info, {kind}function
elf_aux_info: ret
.size elf_aux_info, .-elf_aux_info
.type puts, {kind}function
puts: ret
.size puts, .-puts
.data
.globl __cpu_model, environ
.type __cpu_model, {kind}object
__cpu_model: .zero 16
.size __cpu_model, 16
.type environ, {kind}object
environ: .zero 8
.size environ, 8
"""


@pytest.mark.parametrize(("triple", "functions"), [(X86, []), (ARM, ["getauxval"])])
def test_own_functions_answer_only_where_programs_ask_the_system(
    triple: str, functions: list[str], tmp_path: Path
) -> None:
    """A C library's own; on x86 its CPUID instructions show what it asks. One that fills its argument returns none."""
    program = program_of(OWN.format(kind="%" if triple == ARM else "@"), triple, tmp_path)
    queries = Queries(program)
    assert [symbol.name for symbol in queries.own_functions()] == functions
    assert [symbol.name for symbol in queries.own_data()] == ["__cpu_model"]
    own = {symbol.address: symbol.name for symbol in program.image.symbols}
    assert [own[address] for address in queries] == functions
