"""What there is to run a program on: CPU models that are emulated whole, and this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat import tables
from cpufeat.detection.host import detect
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
"""In place of a CPU model: this machine, and what an emulator takes by itself."""


class Processor(Value):
    """Something to run a program on."""

    name: str
    """What people call it: an emulator's CPU model, ``native`` or ``default``; empty if nothing is of the level."""
    level: str = ""
    """The level that it stands for, empty where that is not known."""
    emulator: Emulator | None = None
    reason: str = ""
    """Why nothing is of the level."""

    @property
    def model(self) -> str:
        """The CPU model to ask the emulator for, empty for what it takes by itself."""
        return "" if self.name == DEFAULT else self.name


def processors(arch: str, names: Sequence[str] | None = None) -> tuple[Processor, ...]:
    """Return the named CPUs, by default one for each level, oldest first.

    A name is a CPU model of the emulator, with changes (``Haswell,-avx2``), a level, or ``native``. Raises VerifyError
    for a name that there is not or a list of none, and where there is no emulator.
    """
    if names is not None and not names:
        raise VerifyError("no CPU is named: leave the list out for one of each level")
    if names is not None and set(names) <= {NATIVE}:
        return tuple(_native(arch) for _ in names)
    choice = _Choice(qemu.emulator(arch))
    if names is not None:
        return tuple(choice.named(name) for name in names)
    return tuple(choice.of_level(level) for level in choice.rows) or (choice.default(),)


class _Choice:
    """An emulator's models by the levels that they stand for (``qemu.tsv``), lowest first."""

    def __init__(self, qemu: Emulator) -> None:
        self.qemu, self.models, self.rows = qemu, qemu.models(), _rows(qemu.arch)

    def default(self) -> Processor:
        return Processor(DEFAULT, emulator=self.qemu)

    def named(self, name: str) -> Processor:
        if name == NATIVE:
            return _native(self.qemu.arch)
        if name in levels(self.qemu.arch):
            return self.of_level(name)
        model = self.qemu.find_model(name, self.models)
        left_out = self.qemu.left_out(model)
        stands_for = (level for level, models in self.rows.items() if model in models)
        whole = (level for level in stands_for if not self._needed(level) & left_out)
        return Processor(model, next(whole, ""), self.qemu)

    def of_level(self, level: str) -> Processor:
        """Return the first model that is emulated whole, or else this machine if that is the level it is of."""
        lacking: frozenset[str] = frozenset()
        for model in self.rows.get(level, ()):
            if model in self.models:
                lacking = self._needed(level) & self.qemu.left_out(model)
                if not lacking:
                    return Processor(model, level, self.qemu)
        native = _native(self.qemu.arch)
        if level == native.level:
            return native
        why = f"does not emulate {', '.join(sorted(lacking))}" if lacking else "has no CPU model of that level"
        here = f"this machine is {native.level}" if native.level else f"this machine is no {self.qemu.arch}"
        return Processor("", level, None, f"{self.qemu.name} {why}, and {here}")

    def _needed(self, level: str) -> frozenset[str]:
        return level_features(self.qemu.arch, level).names


def _rows(arch: str) -> dict[str, list[str]]:
    try:
        rows = tables.rows(f"{family(arch)}/qemu.tsv")
    except FileNotFoundError:
        return {}
    return {level: models.split() for level, models in rows if level in levels(arch)}


def _native(arch: str) -> Processor:
    """Return this machine, with the highest level that models stand for, or its own where none do."""
    if ThisMachine().arch != arch:
        return Processor(NATIVE)
    host = detect(ThisMachine())
    reached = [level for level in _rows(arch) if level_features(arch, level) <= host.features]
    return Processor(NATIVE, reached[-1] if reached else host.level)
