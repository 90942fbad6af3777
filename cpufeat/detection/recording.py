"""A machine written down, and the JSON that it is kept in."""

from __future__ import annotations

from cpufeat.detection.machine import Leaves, Machine
from cpufeat.errors import DumpError
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cpufeat.detection.instructions import Registers


class Recording(Value, Machine):
    """A machine written down: readings by processor, files by path."""

    system: str = "linux"
    version: str = ""
    arch: str = "x86_64"
    libc: str = "gnu"
    emulator: str = ""
    leaves: dict[int, Leaves] = {}
    """CPUID answers of each processor; one processor stands for every one like it."""
    xcr0: int | None = None
    files: dict[str, bytes] = {}
    online: tuple[int, ...] = ()
    auxv: dict[int, int] = {}
    """Entries of the auxiliary vector that are numbers."""
    strings: dict[int, str] = {}
    """Entries of the auxiliary vector that point at text."""
    probes: dict[int, int] = {}
    """What ``riscv_hwprobe`` answers, by key."""
    stored: tuple[int, ...] | None = None
    """The facilities that STFLE answers."""
    sysctls: dict[str, int | str] = {}
    """The kernel's variables by name."""
    processor_features: tuple[int, ...] | None = None
    """The numbers for which ``IsProcessorFeaturePresent`` answers that they are; None where nobody asked."""
    registry_values: dict[str, int | str] = {}
    """Values of the registry, by key and name with a backslash between."""
    cpuinfo: dict[str, Any] | None = None
    """What py-cpuinfo said, where that was asked."""

    def cpuid(self, leaf: int, subleaf: int = 0, cpu: int | None = None) -> Registers | None:
        """Return the recorded answer."""
        if cpu is None:
            cpu = min(self.leaves, default=0)
        return self.leaves.get(cpu, {}).get((leaf, subleaf))

    def xgetbv(self, index: int = 0) -> int | None:
        """Return the recorded XCR0."""
        return self.xcr0 if index == 0 else None

    def read_file(self, path: str) -> bytes | None:
        """Return the recorded file."""
        return self.files.get(path)

    def getauxval(self, kind: int) -> int | None:
        """Return the recorded entry."""
        return self.auxv.get(kind)

    def auxv_string(self, kind: int) -> str:
        """Return the recorded text."""
        return self.strings.get(kind, "")

    def hwprobe(self, keys: tuple[int, ...]) -> dict[int, int]:
        """Return the recorded answers."""
        return {key: self.probes[key] for key in keys if key in self.probes}

    def facilities(self) -> tuple[int, ...] | None:
        """Return the recorded numbers."""
        return self.stored

    def sysctl(self, name: str) -> int | str | None:
        """Return the recorded variable."""
        return self.sysctls.get(name)

    def processor_feature(self, number: int) -> bool | None:
        """Return the recorded answer."""
        return None if self.processor_features is None else number in self.processor_features

    def registry(self, key: str, name: str) -> int | str | None:
        """Return the recorded value."""
        return self.registry_values.get(f"{key}\\{name}")

    def online_cpus(self) -> tuple[int, ...]:
        """Return the recorded processors."""
        return self.online or tuple(self.leaves)

    def py_cpuinfo(self) -> dict[str, Any] | None:
        """Return the recorded answer."""
        return self.cpuinfo

    def to_json(self) -> str:
        """Return the recording as JSON text that :meth:`from_json` reads; registers and masks are hexadecimal."""
        import json

        content = {
            "cpufeat": _FORMAT,
            "system": self.system,
            "version": self.version,
            "arch": self.arch,
            "libc": self.libc,
            "emulator": self.emulator,
            "online": list(self.online),
            "xcr0": None if self.xcr0 is None else f"{self.xcr0:x}",
            "cpuid": {
                str(cpu): {
                    f"{leaf:x}.{sub:x}": " ".join(f"{r:08x}" for r in regs)
                    for (leaf, sub), regs in sorted(leaves.items())
                }
                for cpu, leaves in self.leaves.items()
            },
            "files": {path: content.decode("utf-8", "surrogateescape") for path, content in self.files.items()},
            "auxv": {str(kind): f"{value:x}" for kind, value in self.auxv.items()},
            "strings": {str(kind): text for kind, text in self.strings.items()},
            "hwprobe": {str(key): f"{value:x}" for key, value in self.probes.items()},
            "facilities": list(self.stored or ()),
            "sysctl": self.sysctls,
            "processor-features": list(self.processor_features or ()),
            "registry": self.registry_values,
            "py-cpuinfo": self.cpuinfo,
        }
        return json.dumps({key: value for key, value in content.items() if value or key == "cpufeat"}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, path: str = "recording") -> Recording:
        """Read :meth:`to_json`'s text. Raises DumpError, naming ``path`` and the part that is wrong."""
        import json

        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DumpError(f"{path}: not JSON: {error}") from None
        if not isinstance(content, dict) or content.get("cpufeat") != _FORMAT:
            raise DumpError(f'{path}: not a recording of cpufeat ("cpufeat": {_FORMAT} is missing)')
        part = ""
        try:
            values: dict[str, Any] = {}
            for part, key, read in _PARTS:
                if part in content:
                    values[key] = read(content[part])
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            raise DumpError(f'{path}: bad "{part}" in the recording: {error}') from None
        return cls(**values)


_FORMAT = 1


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _leaf(key: str) -> tuple[int, int]:
    leaf, subleaf = key.split(".")
    return int(leaf, 16), int(subleaf, 16)


def _registers(text: str) -> Registers:
    eax, ebx, ecx, edx = (int(word, 16) & 0xFFFFFFFF for word in text.split())
    return eax, ebx, ecx, edx


def _leaves(value: Any) -> dict[int, Leaves]:
    return {int(cpu): {_leaf(key): _registers(text) for key, text in leaves.items()} for cpu, leaves in value.items()}


def _numbers(value: Any) -> dict[int, int]:
    return {int(key): int(number, 16) & 0xFFFFFFFFFFFFFFFF for key, number in value.items()}


def _files(value: Any) -> dict[str, bytes]:
    return {_text(path): _text(text).encode("utf-8", "surrogateescape") for path, text in value.items()}


def _variables(value: Any) -> dict[str, int | str]:
    return {_text(name): variable if isinstance(variable, int) else _text(variable) for name, variable in value.items()}


_PARTS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("system", "system", _text),
    ("version", "version", _text),
    ("arch", "arch", _text),
    ("libc", "libc", _text),
    ("emulator", "emulator", _text),
    ("online", "online", lambda value: tuple(int(cpu) for cpu in value)),
    ("xcr0", "xcr0", lambda value: int(value, 16)),
    ("cpuid", "leaves", _leaves),
    ("files", "files", _files),
    ("auxv", "auxv", _numbers),
    ("strings", "strings", lambda value: {int(kind): _text(text) for kind, text in value.items()}),
    ("hwprobe", "probes", _numbers),
    ("facilities", "stored", lambda value: tuple(int(number) for number in value)),
    ("sysctl", "sysctls", _variables),
    ("processor-features", "processor_features", lambda value: tuple(int(number) for number in value)),
    ("registry", "registry_values", _variables),
    ("py-cpuinfo", "cpuinfo", dict),
)
