"""Read what each version of LLVM knows: its features, their implications, and its CPUs with their features.

The tables ``data/<family>/llvm-NN.tsv`` are generated from LLVM itself by ``tools/llvm_tables.py``.
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.features import HARDWARE, FeatureSet, family, find, normalize, table
from cpufeat.support.value import Value


class Llvm(Value):
    """One version's table of one architecture, in LLVM's spelling. Sets stay text until they are used."""

    version: int
    arch: str
    implied: dict[str, str]
    """Every hardware feature, and all features that it implies."""
    options: frozenset[str]
    """The names of tuning flags and code generation options, which are no facts about hardware."""
    cpus: dict[str, str]
    """Every CPU, and all its hardware features."""

    def cpu_features(self, cpu: str) -> FeatureSet | None:
        """Return a CPU's features according to this LLVM, None if this LLVM does not know the CPU."""
        return _hardware(self.arch, self.cpus[cpu]) if cpu in self.cpus else None

    def attribute_string(self, features: FeatureSet, options: tuple[str, ...] = ()) -> str:
        """Return ``+a,-b,...``: every hardware feature of this LLVM, on only if all that it implies here is on as well.

        But for AArch64's privileged ``CONTEXTIDREL2``: llc puts what it is given into lower case, and warns.
        ``options`` (``+prefer_256_bit``) follow, those that this LLVM knows.
        """
        requirements, spelled = self._by_own_names()
        wanted = features.names
        signed = [("+" if needs <= wanted else "-") + name for name, needs in requirements.items()]
        return ",".join(signed + [option[0] + spelled[option[1:]] for option in options if option[1:] in spelled])

    def _by_own_names(self) -> tuple[dict[str, frozenset[str]], dict[str, str]]:
        """Return the features that each of LLVM's features needs to be on, and LLVM's spelling of options.

        Features and options are cpufeat's names. Looking up hundreds of them takes longer than all the rest.
        """
        key = (self.arch, self.version)
        if key not in _own_names:
            needed = {name: (name, *implied.split()) for name, implied in self.implied.items()}
            features = {name: find(self.arch, name) for names in needed.values() for name in names}
            own_names = {name: feature.name for name, feature in features.items() if feature.kind in HARDWARE}
            needs = {
                name: frozenset([own_names[other] for other in names if other in own_names])
                for name, names in needed.items()
                if name == name.lower()
            }
            _own_names[key] = needs, {find(self.arch, name).name: name for name in self.options}
        return _own_names[key]


_own_names: dict[tuple[str, int], tuple[dict[str, frozenset[str]], dict[str, str]]] = {}
"""Kept by architecture and version."""

_versions: dict[str, tuple[int, ...]] = {}
_loaded: dict[tuple[str, int], Llvm] = {}
_said: set[int] = set()


def versions(arch: str) -> tuple[int, ...]:
    """Return the LLVM versions that have a table, oldest first."""
    folder = family(arch)
    if folder not in _versions:
        names = tables.names(folder)
        numbers = [int(name[5:-4]) for name in names if name.startswith("llvm-") and name.endswith(".tsv")]
        _versions[folder] = tuple(sorted(numbers))
    return _versions[folder]


def newest(arch: str = "x86_64") -> int:
    """Return the newest LLVM that has a table."""
    return versions(arch)[-1]


def cpu_features(arch: str, cpu: str, version: int | None = None) -> FeatureSet | None:
    """Return a CPU's features according to an LLVM that has a table (None: the newest), None if it is unknown there.

    Reads that one row.
    """
    row = tables.row(f"{family(arch)}/llvm-{version or newest(arch)}.tsv", "cpu", cpu)
    return _hardware(arch, row[3]) if row else None


def _hardware(arch: str, names: str) -> FeatureSet:
    """Return the hardware features among names in LLVM's spelling, with all that they imply."""
    known = table(arch)
    features = [known.get(name) or find(arch, name) for name in normalize(names).split()]
    return FeatureSet(arch, [feature.name for feature in features if feature.kind in HARDWARE]).closed()


def installed() -> int:
    """Return the major version of the LLVM inside llvmlite, or of the newest table if llvmlite cannot be loaded."""
    from cpufeat.support.extras import extra

    try:
        with extra("aot"):
            from llvmlite.binding import llvm_version_info
    except (ImportError, OSError):
        return newest()
    return int(llvm_version_info[0])


def load(arch: str, version: int | None = None) -> Llvm:
    """Return a version's tables (None: the newest).

    A version that is too new for a table gets the newest, with one warning; one that is too old gets the oldest.
    """
    known = versions(arch)
    version = version or known[-1]
    key = (family(arch), version)
    if key not in _loaded:
        if version > known[-1]:
            _say_that_it_is_newer(version, known[-1])
        _loaded[key] = _read(arch, max(known[0], min(version, known[-1])))
    return _loaded[key]


def _say_that_it_is_newer(version: int, newest_known: int) -> None:
    """Warn, once for each version."""
    if version not in _said:
        _said.add(version)
        from cpufeat.errors import warn

        warn(f"no table of LLVM {version} yet: these are the names of LLVM {newest_known}, the newest that is known")


def _read(arch: str, version: int) -> Llvm:
    rows = tables.rows(f"{family(arch)}/llvm-{version}.tsv")
    features = table(arch)
    named = {name: implied for kind, name, _, implied in rows if kind == "feature"}
    is_hardware = {name: features[find(arch, name).name].kind in HARDWARE for name in named}
    return Llvm(
        version,
        arch,
        {name: implied for name, implied in named.items() if is_hardware[name]},
        frozenset(name for name in named if not is_hardware[name]),
        {cpu: names for kind, cpu, _, names in rows if kind == "cpu"},
    )
