"""Identify the CPU of a core: by its model number, unless its features contradict that.

The facts are rows of ``data/<family>/models.tsv``; nothing here knows a feature or a model by name.
"""

from __future__ import annotations

from cpufeat import llvm_tables, tables
from cpufeat.decisions import Decision
from cpufeat.features import FeatureSet, family, table
from cpufeat.levels import levels
from cpufeat.support.value import TYPE_CHECKING, Value
from cpufeat.tables import architecture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from cpufeat.detection.arch import Reading

ANY = "*"
"""The text of a cell of ``models.tsv`` that stands for any value."""


class Identity(Value):
    """The identity of a kind of core."""

    cpu: str
    """LLVM's name, or a level where LLVM has none."""
    name: str
    """The name in common use, empty where no table has it."""
    expected: frozenset[str]
    """The features that the CPU has in LLVM's table."""
    decisions: tuple[Decision, ...] = ()
    named: str = ""
    """The CPU of the model number alone, which the features may contradict; empty where no table has it."""


class Model(Value):
    """A row of ``models.tsv``, whose header says what each column means."""

    vendor: str
    family: str
    model: str
    stepping: str
    core: str
    requires: str
    cpu: str
    name: str
    may: str

    def is_of(self, vendor: str) -> bool:
        """Whether the row is one of that vendor's."""
        return vendor in self.vendor.split(",")

    def fits(self, reading: Reading, reported: frozenset[str]) -> bool:
        """Whether the row is about such a core."""
        return (
            self.is_of(reading.vendor)
            and among(reading.family, self.family)
            and among(reading.model, self.model)
            and among(reading.stepping, self.stepping)
            and self.core in (ANY, reading.core)
            and reported.issuperset(self.requires.split())
        )


def _models(arch: str, vendor: str) -> Iterator[Model]:
    """Yield a vendor's rows, in the order of the table."""
    lines = tables.lines(f"{family(arch)}/models.tsv")
    models = (_model(line) for line in lines if vendor in line)
    return (model for model in models if model.is_of(vendor))


_known_models: dict[str, Model] = {}


def _model(line: str) -> Model:
    """Parse a row once: a machine may have many kinds of core, and a process many machines."""
    if line not in _known_models:
        _known_models[line] = Model(*line.split("\t"))
    return _known_models[line]


def _any_model(arch: str) -> Model:
    """Return the row about parts of every vendor."""
    return Model(*(tables.row(f"{family(arch)}/models.tsv", ANY) or ()))


def among(number: int | None, ranges: str) -> bool:
    """Whether ``1,4-7`` or ``*`` holds a number; an unknown one is only in ``*``."""
    if ranges == ANY:
        return True
    ends = (part.partition("-") for part in ranges.split(","))
    return number is not None and any(int(low, 0) <= number <= int(high or low, 0) for low, _, high in ends)


def described(arch: str, values: Mapping[str, Any], *, in_full: bool = False) -> str:
    """Return a core's identification, in its architecture's words: ``implementer 0x41, part 0xd03``.

    ``values`` are the fields of a reading; ``in_full`` adds the stepping.
    """
    written: dict[str, str] = {}
    for _, vendor, field, form in (row for row in tables.rows("identities.tsv") if row[0] == family(arch)):
        value = values[field]
        is_told = value not in (None, "") and (in_full or field != "stepping")
        if is_told and vendor in (ANY, values["vendor"]) and field not in written:
            halves = {"variant": value >> 4, "revision": value & 15} if isinstance(value, int) else {}
            written[field] = form.format(value, **halves)
    return " ".join(written.values()).rstrip(",") or "a core that does not say what it is"


def identify(arch: str, reading: Reading) -> Identity:
    """Return the CPU of the model number; where it has no row, or what is reported contradicts it, the best fit."""
    reported = FeatureSet(arch, reading.reported).closed().names
    row = next((row for row in _models(arch, reading.vendor) if row.fits(reading, reported)), None)
    if row is None:
        says = "is in no table" if reading.core or reading.model is not None else "gives no model number"
        return _by_features(arch, reading, _best_fit(arch, reading.vendor, reported), says, reading.source)
    expected = _expected(arch, row.cpu)
    may = f"{row.may} {_any_model(arch).may}".split()
    extra = FeatureSet(arch, reading.reported.keys() - expected - set(may)).isa.names
    fitted = _best_fit(arch, reading.vendor, reported) if extra and ANY not in may else row.cpu
    if fitted == row.cpu:
        return Identity(row.cpu, row.name, expected, named=row.cpu)
    names = list(FeatureSet(arch, extra))
    listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    says, evidence = f"is {row.name}, which has no {listed}", reading.reported[min(extra)]
    return _by_features(arch, reading, fitted, says, evidence).replace(named=row.cpu)


def _by_features(arch: str, reading: Reading, fitted: str, says: str, evidence: str) -> Identity:
    reason = f"{described(arch, vars(reading))} {says}; {fitted} fits the features best"
    return Identity(fitted, "", _expected(arch, fitted), (Decision("identity", fitted, reason, evidence),))


def _best_fit(arch: str, vendor: str, reported: frozenset[str]) -> str:
    """Return the vendor's CPU, or the level, that differs least from what is reported and needs no state beyond it."""
    names = dict.fromkeys([*(row.cpu for row in _models(arch, vendor)), *reversed(levels(arch))])
    candidates = [(cpu, expected) for cpu in names if (expected := _expected(arch, cpu))]
    isa = {feature.name for feature in table(arch).values() if feature.kind == "isa"}
    beyond = {feature.name for feature in table(arch).values() if feature.state}.intersection(isa) - reported
    fitting = [
        (len((expected ^ reported) & isa), index, cpu)
        for index, (cpu, expected) in enumerate(candidates)
        if beyond.isdisjoint(expected)
    ]
    return min(fitting)[2] if fitting else architecture(arch).cpu


_known_cpus: dict[tuple[str, str], frozenset[str]] = {}


def _expected(arch: str, cpu: str) -> frozenset[str]:
    """Return the features that a CPU has in LLVM's table."""
    if (arch, cpu) not in _known_cpus:
        features = llvm_tables.cpu_features(arch, cpu)
        _known_cpus[arch, cpu] = features.names if features else frozenset()
    return _known_cpus[arch, cpu]
