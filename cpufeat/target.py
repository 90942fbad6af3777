"""The target to compile for: a triple, a CPU to tune for, and an explicit, closed set of features."""

from __future__ import annotations

from cpufeat import llvm_tables
from cpufeat.errors import CpufeatError, TargetError
from cpufeat.features import FeatureSet
from cpufeat.levels import baseline, level_of, levels
from cpufeat.request import parse, wanted
from cpufeat.support.value import TYPE_CHECKING, Value
from cpufeat.tables import architecture, of_triple
from cpufeat.triples import normalized

if TYPE_CHECKING:
    from typing import Any

    from cpufeat.detection.host import Host


class Target(Value):
    """A target. ``a <= b``: code for a runs wherever code for b does. ``a & b`` runs on both."""

    triple: str
    """LLVM's triple, ``x86_64-unknown-linux-gnu``. It is normalized: the argument may leave out the vendor."""
    cpu: str
    """LLVM's name of the CPU to tune for, or a level. It says nothing about features."""
    features: FeatureSet
    """All features that code may use, closed under implication."""
    options: tuple[str, ...] = ()
    """Requested tuning and code generation flags of LLVM (``+prefer_256_bit``); targets compare without them."""

    def __init__(self, triple: str, cpu: str, features: FeatureSet, options: tuple[str, ...] = ()) -> None:
        super().__init__(normalized(triple), cpu, features, options)  # type: ignore[call-arg]

    @classmethod
    def parse(cls, request: str, triple: str = "x86_64-unknown-linux-gnu") -> Target:
        """Return the target of a request, independent of this machine.

        Raises UnknownNameError, and TargetError for a request that is relative to a host (``native``) or that does not
        fit the ``triple``.
        """
        from cpufeat.cpus import base_features

        arch = of_triple(triple)
        parsed = parse(request, arch)
        if parsed.is_native:
            raise TargetError(f"{request!r} is relative to a host, and there is none here: name a level or a CPU")
        return cls(triple, parsed.base, wanted(parsed, base_features(arch, parsed.base)).features, parsed.options)

    @property
    def arch(self) -> str:
        """The architecture, as the kernel calls it (``x86_64``, ``ppc64le``)."""
        return self.features.arch

    @property
    def level(self) -> str:
        """The highest architecture level that the features reach, empty if not even the lowest."""
        return level_of(self.features)

    def llvm_features(self, version: int | None = None) -> str:
        """Return LLVM's attribute string: ``+`` or ``-`` for every hardware feature that this LLVM knows, in its order.

        ``version`` is LLVM's major version, by default that of the installed llvmlite.
        """
        return self._llvm(version).attribute_string(self.features, self.options)

    def llvm_cpu(self, version: int | None = None) -> str:
        """Return the CPU's name, or that of its nearest predecessor that this LLVM knows."""
        from cpufeat.cpus import cpus

        known, rows, cpu = self._llvm(version).cpus, cpus(self.arch), self.cpu
        while cpu not in known and cpu in rows:
            cpu = rows[cpu].predecessor
        return cpu if cpu in known else architecture(self.arch).cpu

    def _llvm(self, version: int | None) -> llvm_tables.Llvm:
        return llvm_tables.load(self.arch, llvm_tables.installed() if version is None else version)

    def missing_on(self, host: Host) -> FeatureSet:
        """Return the ISA features that the host cannot run."""
        return self.features.isa - host.features

    def runs_on(self, host: Host) -> bool:
        """Whether code for this target runs on the host."""
        return host.arch == self.arch and not self.missing_on(host)

    def __le__(self, other: Target) -> bool:
        return self._platform == other._platform and self.features.isa <= other.features.isa

    def __lt__(self, other: Target) -> bool:
        return self <= other and not other <= self

    def __and__(self, other: Target) -> Target:
        """Return the target whose code runs on both. Raises TargetError for another architecture or system."""
        if self._platform != other._platform:
            raise TargetError(f"no code runs on both {self.triple} and {other.triple}")
        features = self.features & other.features
        options = tuple(option for option in self.options if option in other.options)
        cpu = level_of(features) or baseline(self.arch)
        if self <= other or other <= self:
            cpu = self.cpu if self <= other else other.cpu
        return Target(self.triple, cpu, features, options)

    @property
    def _platform(self) -> tuple[str, ...]:
        arch, _, *system = self.triple.split("-")
        return (arch, *system)

    def to_json(self) -> str:
        """Return the target as one line of JSON that :meth:`from_json` reads."""
        import json

        return json.dumps(
            {"triple": self.triple, "cpu": self.cpu, "features": list(self.features), "options": list(self.options)}
        )

    @classmethod
    def from_json(cls, text: str) -> Target:
        """Return the target that :meth:`to_json` wrote. Raises TargetError for any other text."""
        import json

        from cpufeat.cpus import find_cpu

        try:
            content = json.loads(text)
            triple, cpu, names, options = (content[key] for key in ("triple", "cpu", "features", "options"))
            arch = of_triple(triple)
            features = FeatureSet(arch, map(str, names))
            if features != features.closed():
                raise TargetError(
                    f"its features lack {', '.join(features.closed() - features)}, which others depend on"
                )
            if cpu not in levels(arch):
                find_cpu(arch, cpu)
            return cls(triple, cpu, features, tuple(map(str, options)))
        except (ValueError, TypeError, KeyError, AttributeError, CpufeatError) as error:
            raise TargetError(f"not the JSON of a target: {error}") from None

    def create_target_machine(self, **machine_options: Any) -> Any:
        """Return llvmlite's TargetMachine for this target; ``machine_options`` go to ``create_target_machine``."""
        from llvmlite import binding

        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
        return binding.Target.from_triple(self.triple).create_target_machine(
            cpu=self.llvm_cpu(), features=self.llvm_features(), **machine_options
        )
