"""Choose the CPUs that ``verify`` runs a program on: fully emulated models of :mod:`.qemu`, and this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat import tables
from cpufeat.detection.detect import detect
from cpufeat.detection.systems import ThisMachine
from cpufeat.errors import VerifyError
from cpufeat.features import family
from cpufeat.levels import level_features, levels
from cpufeat.running import qemu
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.running.qemu import Emulator

NATIVE, DEFAULT = "native", "default"
"""Names in place of a CPU model's: this machine, and the model that the emulator picks by default."""


class Cpu(Value):
    """A CPU to run a program on, or the reason why there is none of a level."""

    name: str
    """The emulator's name of the model, :data:`NATIVE` or :data:`DEFAULT`; empty if there is no CPU of the level."""
    level: str = ""
    """The level that it has, empty if unknown."""
    emulator: Emulator | None = None
    """None for this machine, and where there is no CPU of the level."""
    reason: str = ""
    """The reason why there is no CPU of the level."""

    @property
    def model(self) -> str:
        """The CPU model to request from the emulator, empty for its default."""
        return "" if self.name == DEFAULT else self.name


def select_cpus(arch: str, names: Sequence[str] | None = None, *, emulated_only: bool = False) -> tuple[Cpu, ...]:
    """Return the named CPUs, by default one for each level, lowest level first.

    A name is a CPU model of the emulator, with changes (``Haswell,-avx2``), a level, or ``native``. With
    ``emulated_only`` this machine is not among them. Raises VerifyError for an unknown name, an empty list, ``native``
    with ``emulated_only``, and where there is no emulator.
    """
    if emulated_only and NATIVE in (names or ()):
        raise VerifyError("native is this machine itself, and only emulated CPUs are asked for")
    if names is not None and not names:
        raise VerifyError("the list of CPUs is empty: leave it out to get one CPU for each level")
    if names is not None and set(names) <= {NATIVE}:
        return tuple(_native(arch) for _ in names)
    models = _Models(qemu.emulator(arch), emulated_only)
    if names is not None:
        return tuple(models.by_name(name) for name in names)
    return tuple(models.by_level(level) for level in models.models_of) or (models.default(),)


def may_be_native(names: Sequence[str] | None) -> bool:
    """Whether a program may run on this machine itself where those CPUs are selected."""
    archs = [arch for arch, *_ in tables.rows("architectures.tsv") if tables.has_tables(arch)]
    return names is None or any(name == NATIVE or any(name in levels(arch) for arch in archs) for name in names)


class _Models:
    """The models of an emulator, by the levels that they have (``qemu.tsv``), lowest level first."""

    def __init__(self, emulator: Emulator, emulated_only: bool) -> None:
        self._emulated_only = emulated_only
        self.emulator, self.names = emulator, emulator.models()
        self.models_of = models_by_level(emulator.arch)

    def default(self) -> Cpu:
        return Cpu(DEFAULT, emulator=self.emulator)

    def by_name(self, name: str) -> Cpu:
        if name == NATIVE:
            return _native(self.emulator.arch)
        if name in levels(self.emulator.arch):
            return self.by_level(name)
        model = self.emulator.find_model(name, self.names)
        unemulated = self.emulator.unemulated_features(model)
        candidates = (level for level, models in self.models_of.items() if model in models)
        fully_emulated = (level for level in candidates if not self._required(level) & unemulated)
        return Cpu(model, next(fully_emulated, ""), self.emulator)

    def by_level(self, level: str) -> Cpu:
        """Return the first model that is fully emulated; if there is none, this machine if it has that level."""
        unemulated: frozenset[str] = frozenset()
        for model in self.models_of.get(level, ()):
            if model in self.names:
                unemulated = self._required(level) & self.emulator.unemulated_features(model)
                if not unemulated:
                    return Cpu(model, level, self.emulator)
        native = _native(self.emulator.arch)
        if level == native.level and not self._emulated_only:
            return native
        why = f"does not emulate {', '.join(sorted(unemulated))}" if unemulated else "has no CPU model of that level"
        label = f"this machine is {native.level}" if native.level else f"this machine is no {self.emulator.arch}"
        if level == native.level:
            label = "only emulated CPUs are asked for"
        return Cpu("", level, None, f"{self.emulator.name} {why}, and {label}")

    def _required(self, level: str) -> frozenset[str]:
        return level_features(self.emulator.arch, level).names


def models_by_level(arch: str) -> dict[str, list[str]]:
    """Return the emulator's CPU models of each level of an architecture, lowest level first; empty if none is known."""
    try:
        rows = tables.rows(f"{family(arch)}/qemu.tsv")
    except FileNotFoundError:
        return {}
    return {level: models.split() for level, models in rows if level in levels(arch)}


def _native(arch: str) -> Cpu:
    """Return this machine with the highest level that has models, or with its own if no level has any."""
    if ThisMachine().arch != arch:
        return Cpu(NATIVE)
    host = detect(ThisMachine())
    supported = [level for level in models_by_level(arch) if level_features(arch, level) <= host.features]
    return Cpu(NATIVE, supported[-1] if supported else host.level)
