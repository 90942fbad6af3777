"""Store the answers of a machine as JSON, and replay them: a ``Recording`` stands in for the machine.

A question of :class:`~cpufeat.detection.machine.Machine` is recorded by one field and one row of :data:`QUESTIONS`.
"""

from __future__ import annotations

from os import PathLike

from cpufeat.detection import answers
from cpufeat.detection.answers import (
    DICTIONARY,
    FILES,
    MASKS,
    NUMBERS,
    TEXTS,
    VARIABLES,
    CpuidLeaves,
    ExtendedControlRegister,
    PresentNumbers,
    ProbedKeys,
    RegistryValues,
)
from cpufeat.detection.machine import Leaves, Machine
from cpufeat.errors import DumpError, expect
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cpufeat.decisions import Decision

_FORMAT = 1
FACTS = ("system", "version", "arch", "libc", "emulator", "origin")
"""The attributes of a machine, recorded under their own names."""


class Question(Value):
    """A method of Machine, and where its answers are recorded."""

    method: str
    field: str
    """The field of :class:`Recording`."""
    part: str
    """The key in JSON."""
    answers: Any
    """The form in which they are kept: an instance of a class of :mod:`cpufeat.detection.answers`."""


QUESTIONS = (
    Question("online_cpus", "online", "online", NUMBERS),
    Question("xgetbv", "xcr0", "xcr0", ExtendedControlRegister()),
    Question("cpuid", "leaves", "cpuid", CpuidLeaves()),
    Question("read_file", "files", "files", FILES),
    Question("getauxval", "auxv", "auxv", MASKS),
    Question("auxv_string", "strings", "strings", TEXTS),
    Question("hwprobe", "probes", "hwprobe", ProbedKeys()),
    Question("facilities", "stored", "facilities", NUMBERS),
    Question("sysctl", "sysctls", "sysctl", VARIABLES),
    Question("processor_feature", "processor_features", "processor-features", PresentNumbers()),
    Question("registry", "registry_values", "registry", RegistryValues()),
    Question("py_cpuinfo", "cpuinfo", "py-cpuinfo", DICTIONARY),
)
"""Every recorded question, in the order of the parts in JSON."""
NOT_RECORDED = {"permitted_states": "a permission belongs to the process that asked for it, not to the machine"}
"""The other questions, and why."""


_KINDS = {
    "xcr0": (int, type(None)),
    "stored": (tuple, type(None)),
    "processor_features": (tuple, type(None)),
    "cpuinfo": (dict, type(None)),
}
"""The types of the fields of a recording that may be None; the others have that of their default."""


class Recording(Value, Machine):
    """A recorded machine: the answers to each question of :class:`~cpufeat.detection.machine.Machine`."""

    system: str = "linux"
    version: str = ""
    arch: str = "x86_64"
    libc: str = "gnu"
    emulator: str = ""
    origin: str = ""
    leaves: dict[int, Leaves] = {}
    """CPUID answers by processor and (leaf, subleaf): EAX, EBX, ECX and EDX. One processor stands for all like it."""
    xcr0: int | None = None
    """The register XCR0, 64 bits; None where it was not read."""
    files: dict[str, bytes] = {}
    """The contents of files by path."""
    online: tuple[int, ...] = ()
    """The numbers of the processors that the process could run on."""
    auxv: dict[int, int] = {}
    """Entries of the auxiliary vector that are numbers, by type (<linux/auxvec.h>)."""
    strings: dict[int, str] = {}
    """Entries of the auxiliary vector that point at text, by type."""
    probes: dict[int, int] = {}
    """The answers of ``riscv_hwprobe``, by key."""
    stored: tuple[int, ...] | None = None
    """The facilities that STFLE answers."""
    sysctls: dict[str, int | str] = {}
    """The kernel's variables by name."""
    processor_features: tuple[int, ...] | None = None
    """The numbers that ``IsProcessorFeaturePresent`` confirms; None where it was not asked."""
    registry_values: dict[str, int | str] = {}
    """Values of the registry, by key and name with a backslash between."""
    cpuinfo: dict[str, Any] | None = None
    """The answer of py-cpuinfo, where it was asked."""
    remarks: tuple[Decision, ...] = ()
    """What was odd about the dump that it was read from. JSON does not have it: it has what was made of the dump."""

    if not TYPE_CHECKING:

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            for field in self._fields:
                kinds = _KINDS.get(field) or (type(getattr(Recording, field)),)
                takes = " or ".join("None" if kind is type(None) else f"a {kind.__name__}" for kind in kinds)
                expect(field, getattr(self, field), kinds, takes)

    def online_cpus(self) -> tuple[int, ...]:
        """Return the recorded processors, or else those whose CPUID is recorded."""
        return self.online or tuple(self.leaves)

    def to_json(self) -> str:
        """Return the recording as JSON text that :meth:`from_json` reads; registers and masks are hexadecimal."""
        import json

        facts = {name: value for name in FACTS if (value := getattr(self, name)) or getattr(Recording, name)}
        parts = {question.part: question.answers.write(getattr(self, question.field)) for question in QUESTIONS}
        answers = {part: value for part, value in parts.items() if value}
        return json.dumps({"cpufeat": _FORMAT, **facts, **answers}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, path: str = "recording") -> Recording:
        """Read :meth:`to_json`'s text. Raises DumpError, naming ``path`` and the part that is wrong."""
        expect("text", text, (str, bytes), "JSON, a str")
        expect("path", path, (str, PathLike), "a path for messages")
        import json

        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DumpError(f"{path}: not JSON: {error}") from None
        if not isinstance(content, dict) or content.get("cpufeat") != _FORMAT:
            raise DumpError(f'{path}: not a recording of cpufeat ("cpufeat": {_FORMAT} is missing)')
        return cls(**{field: _read(content, part, read, path) for part, field, read in _parts() if part in content})


def _parts() -> list[tuple[str, str, Callable[[Any], Any]]]:
    """Return the parts of the JSON: the key, the field, and the reader of the value."""
    facts = [(name, name, answers.text) for name in FACTS]
    return [*facts, *((question.part, question.field, question.answers.read) for question in QUESTIONS)]


def _read(content: dict[str, Any], part: str, read: Callable[[Any], Any], path: str) -> Any:
    try:
        return read(content[part])
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise DumpError(f'{path}: bad "{part}" in the recording: {error}') from None


def _replay(question: Question) -> Callable[..., Any]:
    """Return the method that answers a question from the recording, or as a silent machine does."""
    silent = getattr(Machine, question.method)

    def method(self: Recording, *arguments: Any, **named: Any) -> Any:
        answer = question.answers.find(getattr(self, question.field), *arguments, **named)
        return silent(self, *arguments, **named) if answer is None else answer

    method.__name__, method.__doc__ = question.method, "Return the recorded answer."
    return method


for _question in QUESTIONS:
    if _question.method not in vars(Recording):
        setattr(Recording, _question.method, _replay(_question))
