"""Identify the CPU of a core: by its model number, unless its features contradict that.

The facts are rows of ``data/<family>/models.tsv``; nothing here knows a feature or a model by name.
"""

from __future__ import annotations

from cpufeat import llvm_tables, tables
from cpufeat.decisions import STAND_IN, Decision
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

_GENERIC = "generic"
_UNKNOWN_CLASS = 9
"""Above every class of the tables: a core that they do not know is newer than they are."""


class Identity(Value):
    """The identity of a kind of core."""

    cpu: str
    """LLVM's name, or a level where LLVM has none."""
    name: str
    """The name in common use, empty where no table has it."""
    expected: frozenset[str]
    """The features that the CPU has in LLVM's table; none where the CPU is not known."""
    decisions: tuple[Decision, ...] = ()
    named: str = ""
    """The CPU of the model number alone, which the features may contradict; empty where no table has it."""
    stands_for: str = ""
    """The CPU's own name, in an LLVM newer than every table, where ``cpu`` is the nearest one that LLVM knows."""


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
    class_: str = ""
    """A number, the higher the bigger the core; only in tables of families whose kernels list cores in any order."""

    def is_of(self, vendor: str) -> bool:
        """Whether the row is one of that vendor's, or about a core with a name of its own, whoever made the chip."""
        return self.vendor == ANY or vendor in self.vendor.split(",")

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
    """Yield the rows that may be about a vendor's cores, in the order of the table."""
    lines = tables.lines(f"{family(arch)}/models.tsv")
    models = (_model(line) for line in lines if vendor in line or line[0] == ANY)
    return (model for model in models if model.is_of(vendor) and model.cpu)


_known_models: dict[str, Model] = {}


def _model(line: str) -> Model:
    """Parse a row once: a machine may have many kinds of core, and a process many machines."""
    if line not in _known_models:
        _known_models[line] = Model(*line.split("\t"))
    return _known_models[line]


def biggest_first(arch: str, readings: list[Reading]) -> list[Reading]:
    """Return the readings by the class of the core in ``models.tsv``, then by the row; unknown cores before all."""
    if len(readings) < 2:
        return readings
    rows = [row for row in (Model(*cells) for cells in tables.rows(f"{family(arch)}/models.tsv")) if row.cpu]

    def size(reading: Reading) -> tuple[int, int]:
        reported = frozenset(reading.reported)
        sizes = ((int(row.class_), at) for at, row in enumerate(rows) if row.fits(reading, reported))
        return next(sizes, (_UNKNOWN_CLASS, 0))

    return sorted(readings, key=size, reverse=True)


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
    """Return the CPU of the model number; the best fit where what is reported contradicts it, and the fit does less so.

    A number that has no row is LLVM's generic CPU, since the nearest fit by features would be a guess, or the
    generation whose features it has, where a row without a name says so.
    """
    reported = FeatureSet(arch, reading.reported).closed().names
    row = _row(arch, reading, reported)
    if row is None or not row.name:
        return _unknown(arch, reading, row.cpu if row else _generic(arch))
    expected = _expected(arch, row.cpu)
    may = f"{row.may} {_any_model(arch).may}".split()
    extra = FeatureSet(arch, reading.reported.keys() - expected - set(may)).isa
    telling = _telling(extra) if extra else frozenset()
    fitted = _best_fit(arch, reading.vendor, reported) if telling and ANY not in may else row.cpu
    if telling.isdisjoint(_expected(arch, fitted)):
        return _tuned(arch, Identity(row.cpu, row.name, expected, named=row.cpu))
    names = list(extra)
    listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    reason = f"{described(arch, vars(reading))} is {row.name}, which has no {listed}; {fitted} fits the features best"
    decision = Decision("identity", fitted, reason, reading.reported[min(names)])
    return _tuned(arch, Identity(fitted, "", _expected(arch, fitted), (decision,), named=row.cpu))


def _tuned(arch: str, identity: Identity) -> Identity:
    """Return the identity with a stand-in in place of a CPU that is newer than every LLVM with a table."""
    if llvm_tables.cpu_features(arch, identity.cpu) is not None:
        return identity
    from cpufeat.cpus import stand_in

    cpu, llvm = stand_in(arch, identity.cpu), llvm_tables.newest(arch)
    known_as = f"{identity.cpu} ({identity.name})" if identity.name else identity.cpu
    decision = Decision(
        STAND_IN, cpu, f"stands in for {known_as}, which LLVM {llvm} does not have", f"data/{family(arch)}/cpus.tsv"
    )
    return identity.replace(
        cpu=cpu,
        named=stand_in(arch, identity.named),
        stands_for=identity.cpu,
        decisions=(*identity.decisions, decision),
    )


def _telling(features: FeatureSet) -> frozenset[str]:
    """Return those that belong to a level or have a register state of their own: what compilers use unasked.

    Tuning depends on no others (RDSEED), so no others tell of another CPU than the model number does.
    """
    known = table(features.arch)
    of_levels = frozenset(name for adds in levels(features.arch).values() for name in adds)
    return frozenset(name for name in features if known[name].state or name in of_levels)


def features_by_number(arch: str, reading: Reading) -> frozenset[str] | None:
    """Return the features that LLVM gives the CPU of the model number, None where no table has the number."""
    row = _row(arch, reading, frozenset())
    return _expected(arch, row.cpu) if row else None


def _row(arch: str, reading: Reading, reported: frozenset[str]) -> Model | None:
    return next((row for row in _models(arch, reading.vendor) if row.fits(reading, reported)), None)


def _unknown(arch: str, reading: Reading, cpu: str) -> Identity:
    says = "is in no table" if reading.core or reading.model is not None else "gives no model number"
    meaning = "its features count, and no tuning is known" if cpu == _generic(arch) else f"it is at least {cpu}"
    reason = f"{described(arch, vars(reading))} {says}: {meaning}"
    return Identity(cpu, "", frozenset(), (Decision("identity", cpu, reason, reading.source),))


def _generic(arch: str) -> str:
    """Return LLVM's ``generic``; where that cannot run the architecture's code, the CPU of its lowest level."""
    own = architecture(arch)
    return _GENERIC if not own.requires or own.requires in _expected(arch, _GENERIC) else own.cpu


def _best_fit(arch: str, vendor: str, reported: frozenset[str]) -> str:
    """Return the vendor's CPU, or the level, that differs least from what is reported and needs no state beyond it."""
    of_llvm = [level for level in reversed(levels(arch)) if llvm_tables.cpu_features(arch, level) is not None]
    names = dict.fromkeys([*(row.cpu for row in _models(arch, vendor)), *of_llvm])
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
    """Return the features that a CPU has in LLVM's table, or in ``cpus.tsv`` if it is newer than that."""
    if (arch, cpu) not in _known_cpus:
        features = llvm_tables.cpu_features(arch, cpu)
        if features is None:
            from cpufeat.cpus import cpu_features

            features = cpu_features(arch, cpu)
        _known_cpus[arch, cpu] = features.names
    return _known_cpus[arch, cpu]


class Erratum(Value):
    """A row of ``errata.tsv``, whose header says what each column means."""

    vendor: str
    family: str
    model: str
    stepping: str
    features: str
    when: str
    reason: str
    evidence: str


def errata(table: str, reading: Reading) -> list[Erratum]:
    """Return the rows of a table of errata that may be about a core of which something is known."""
    if not reading.vendor and reading.model is None:
        return []
    vendors = (ANY, reading.vendor)
    return [
        Erratum(*cells)
        for cells in tables.rows(table)
        if (cells[0] in vendors or not reading.vendor)
        and _may_be(reading.family, cells[1])
        and _may_be(reading.model, cells[2])
        and _may_be(reading.stepping, cells[3])
    ]


def _may_be(number: int | None, ranges: str) -> bool:
    return number is None or among(number, ranges)
