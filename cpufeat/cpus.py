"""Look up CPUs by any system's spelling in ``cpus.tsv``, and give the features that each has.

The rows are those of ``data/<family>/cpus.tsv``; what a CPU has is in LLVM's own tables (:mod:`cpufeat.llvm_tables`),
corrected by ``data/corrections.tsv`` where hardware, manuals and GCC say otherwise.
"""

from __future__ import annotations

from cpufeat import llvm_tables, tables
from cpufeat.errors import TargetError, UnknownNameError
from cpufeat.features import FeatureSet, family, nearest
from cpufeat.levels import baseline, level_features, levels, required_features
from cpufeat.support.value import Value
from cpufeat.tables import architecture


class Cpu(Value):
    """A row of ``cpus.tsv``."""

    name: str
    predecessor: str
    """The nearest older CPU, for an LLVM that does not know this one."""
    spellings_text: str
    """:attr:`spellings_by_system` as the table writes them."""

    @property
    def spellings(self) -> tuple[str, ...]:
        """Other systems' names."""
        return tuple([item.split("=", 1)[1] for item in self.spellings_text.split()])

    @property
    def spellings_by_system(self) -> dict[str, tuple[str, ...]]:
        """Other systems' names: ``llvm`` (its second names), ``gcc``, ``archspec``."""
        pairs = [item.split("=", 1) for item in self.spellings_text.split()]
        return {system: tuple([name for of, name in pairs if of == system]) for system, _ in pairs}


class Correction(Value):
    """What a row of ``corrections.tsv``, whose header says more, says of a CPU."""

    has: str
    lacks: str
    source: str


_cpus: dict[str, dict[str, Cpu]] = {}
_spellings: dict[str, dict[str, str]] = {}


def cpus(arch: str) -> dict[str, Cpu]:
    """Return every CPU by LLVM's name. Raises UnknownNameError for an unknown architecture."""
    folder = family(arch)
    if folder not in _cpus:
        _cpus[folder] = {
            name: Cpu(name, predecessor, spellings)
            for name, predecessor, spellings, *_ in tables.rows(f"{folder}/cpus.tsv")
        }
    return _cpus[folder]


def lookup(arch: str, spelling: str) -> str | None:
    """Return LLVM's name of the level or CPU with that spelling in any system, None if there is none."""
    return _all_spellings(arch).get(_normalize(spelling))


def find_cpu(arch: str, spelling: str, *further: str) -> str:
    """Return LLVM's name of the level or CPU with that spelling in any system.

    Raises UnknownNameError with the nearest names; ``further`` are further names that may have been meant.
    """
    name = lookup(arch, spelling)
    if name is None:
        known = {**{name: name for name in further}, **_all_spellings(arch)}
        elsewhere = [folder for folder, other in tables.families().items() if lookup(other, spelling)]
        raise UnknownNameError(f"{family(arch)} CPU", spelling, nearest(_normalize(spelling), known), tuple(elsewhere))
    return name


def cpu_features(arch: str, cpu: str) -> FeatureSet:
    """Return the features of a level or CPU (in LLVM's spelling).

    A CPU has those that the newest LLVM which knows it says, or else those of its predecessor, with the corrections of
    ``data/corrections.tsv``.
    """
    if cpu in levels(arch):
        return level_features(arch, cpu)
    corrected = correction(arch, cpu)
    has = FeatureSet(arch, corrected.has.split()).closed()
    return (_by_llvm(arch, cpu) | has).completed().without(corrected.lacks.split())


def _by_llvm(arch: str, cpu: str) -> FeatureSet:
    for version in reversed(llvm_tables.versions(arch)):
        features = llvm_tables.cpu_features(arch, cpu, version)
        if features is not None:
            return features
    row = cpus(arch).get(cpu)
    if row is None or not row.predecessor:
        raise UnknownNameError(f"{family(arch)} CPU", cpu)
    return cpu_features(arch, row.predecessor)


def stand_in(arch: str, cpu: str) -> str:
    """Return the CPU itself, or its nearest predecessor that the newest LLVM with a table knows."""
    while cpu in cpus(arch) and llvm_tables.cpu_features(arch, cpu) is None:
        cpu = cpus(arch)[cpu].predecessor
    return cpu


def correction(arch: str, cpu: str) -> Correction:
    """Return how a CPU differs from what LLVM says of it; the fields are empty for most."""
    row = tables.row("corrections.tsv", family(arch), cpu) or ("", "", "", "", "")
    return Correction(*row[2:])


def base_features(arch: str, cpu: str) -> FeatureSet:
    """Return the features that an architecture's code may use on a level or CPU: its own and the required ones.

    Raises TargetError for a CPU that cannot run the architecture's code.
    """
    if not can_run(arch, cpu):
        size = architecture(arch).requires.replace("bit", "-bit")
        raise TargetError(f"{cpu} is no {size} CPU in LLVM's table: {arch} code needs at least {baseline(arch)}")
    return cpu_features(arch, cpu) | required_features(arch)


def can_run(arch: str, cpu: str) -> bool:
    """Whether a level or CPU (in LLVM's spelling) has the features without which nothing can run the code."""
    return cpu_features(arch, cpu).names.issuperset(architecture(arch).requires.split())


def _all_spellings(arch: str) -> dict[str, str]:
    if arch not in _spellings:
        known = cpus(arch)
        alternatives = {_normalize(name): cpu.name for cpu in known.values() for name in cpu.spellings}
        _spellings[arch] = {**alternatives, **{_normalize(name): name for name in (*levels(arch), *known)}}
    return _spellings[arch]


def _normalize(spelling: str) -> str:
    return spelling.strip().lower().replace("_", "-")
