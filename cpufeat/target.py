"""Define the target to compile for: a triple, a CPU to tune for, and an explicit, closed set of features."""

from __future__ import annotations

from cpufeat import llvm_tables
from cpufeat.detection.host import Host
from cpufeat.errors import CpufeatError, OptionError, TargetError, expect, one_of
from cpufeat.features import HARDWARE, FeatureSet, family, find
from cpufeat.levels import baseline, level_of, levels, required_features
from cpufeat.request import arch_of, parse, wanted
from cpufeat.support.value import TYPE_CHECKING, Value
from cpufeat.tables import architecture, has_tables, of_triple
from cpufeat.triples import complete, triple_of

if TYPE_CHECKING:
    from typing import Any


class Target(Value):
    """A target. ``a <= b``: code for a runs wherever code for b does. ``a & b`` runs on both.

    In these a :class:`~cpufeat.Host` may stand for a target, on either side: for its triple, CPU and usable features.
    """

    triple: str
    """LLVM's triple, ``x86_64-unknown-linux-gnu``. It is normalized: the argument may leave out the vendor, and an
    architecture alone stands for its triple on Linux with glibc."""
    cpu: str
    """LLVM's name of the CPU to tune for, or a level. It says nothing about features."""
    features: FeatureSet
    """All features that code may use, closed under implication."""
    options: tuple[str, ...] = ()
    """Requested tuning and code generation flags of LLVM (``+prefer_256_bit``); targets compare without them."""

    def __init__(self, triple: str, cpu: str, features: FeatureSet, options: tuple[str, ...] = ()) -> None:
        """Create a target. Raises TargetError if its parts contradict each other, and UnknownNameError."""
        expect("triple", triple, str, "LLVM's triple, a str")
        expect("cpu", cpu, str, "the name of a CPU or level, a str")
        expect("features", features, FeatureSet, "a FeatureSet")
        expect("options", options, (tuple, list), "a tuple of +option and -option")
        whole = complete(triple)
        if not whole.startswith(architecture(features.arch).triple) and family(of_triple(whole)) != family(
            features.arch
        ):
            raise TargetError(f"{whole} is not a triple of {features.arch}, the architecture of the features")
        checked = tuple([_option(features.arch, option) for option in options])
        super().__init__(whole, cpu, features, checked)  # type: ignore[call-arg]

    @classmethod
    def parse(cls, request: str, triple: str | None = None) -> Target:
        """Return the target of a request, independent of what this machine can run.

        ``triple`` is LLVM's; an architecture alone (``aarch64``) stands for that of Linux with glibc. None stands for
        the triple of this machine (or of ``CPUFEAT_MACHINE``) where the CPU or level has code for its architecture, and
        else for the CPU's own architecture, 64-bit if it has the choice, on Linux with glibc.

        Raises UnknownNameError, and TargetError for a request that is relative to a host (``native``), that does not
        fit the triple, or that names a CPU of several architectures (``generic``) without one. Without ``triple`` also
        raises OSError and DumpError for a bad ``CPUFEAT_MACHINE``.
        """
        from cpufeat.cpus import base_features

        expect("request", request, str, "a level or a CPU with +feature and -feature, a str")
        expect("triple", triple, (str, type(None)), "LLVM's triple, a str, or None")
        if triple is None:
            triple = default_triple(request)
        arch = of_triple(triple)
        parsed = parse(request, arch)
        if parsed.is_native:
            raise TargetError(f"{request!r} is relative to a host, and there is none here: name a level or a CPU")
        return cls(triple, parsed.base, wanted(parsed, base_features(arch, parsed.base)).features, parsed.options)

    @classmethod
    def of(cls, host: Host) -> Target:
        """Return the target of code that uses all that a host can run, whatever the environment asks for."""
        expect("host", host, Host, "a Host")
        return cls(host.triple, host.cpu, host.features)

    @property
    def arch(self) -> str:
        """The architecture, as the kernel calls it (``x86_64``, ``ppc64le``)."""
        return self.features.arch

    @property
    def key(self) -> str:
        """A short text for caches, equal for two targets exactly when code for one of them may be used for the other.

        So it is if the triples agree in all but the vendor, the ISA features are the same, and so are the options that
        change more than the tuning (``+retpoline``). The CPU, tuning options and privileged features do not count;
        where code for another CPU is not wanted, though it would run, add :attr:`cpu` to it.

        ``x86_64-linux-gnu-`` and 32 hexadecimal digits: the beginning of the SHA-256 of the platform, the names of the
        features and the options, each sorted, a line each. The same in every process, on every machine and in every
        version of Python, and of cpufeat as long as LLVM renames no feature.
        """
        import hashlib

        changing = [option for option in self.options if find(self.arch, option[1:]).kind != "tuning"]
        platform = "-".join(self._platform)
        content = "\n".join([platform, *sorted(self.features.isa.names), *sorted(changing)])
        return f"{platform}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"

    @property
    def level(self) -> str:
        """The highest architecture level that the features reach, empty if not even the lowest."""
        return level_of(self.features)

    def llvm_features(self, version: int | None = None) -> str:
        """Return LLVM's attribute string: ``+`` or ``-`` for every hardware feature that this LLVM knows, in its order.

        ``version`` is LLVM's major version, by default that of the installed llvmlite; for one that is newer than all
        tables the newest serves, with a CpufeatWarning. Raises OptionError for a number below 1.
        """
        return self._llvm(version).attribute_string(self.features, self.options)

    def llvm_cpu(self, version: int | None = None) -> str:
        """Return the CPU's name, or that of its nearest predecessor that this LLVM knows.

        ``version`` and errors are as for :meth:`llvm_features`.
        """
        from cpufeat.cpus import cpus

        known, rows, cpu = self._llvm(version).cpus, cpus(self.arch), self.cpu
        while cpu not in known and cpu in rows:
            cpu = rows[cpu].predecessor
        return cpu if cpu in known else architecture(self.arch).cpu

    def _llvm(self, version: int | None) -> llvm_tables.Llvm:
        expect("version", version, (int, type(None)), "LLVM's major version, an int, or None")
        if version is not None and version < 1:
            raise OptionError(f"version must be LLVM's major version, 1 or more, not {version}")
        return llvm_tables.load(self.arch, version or llvm_tables.installed())

    def missing_on(self, host: Host) -> FeatureSet:
        """Return the ISA features that the host cannot run. Raises TargetError for a host of another family."""
        expect("host", host, Host, "a Host")
        return self.features.isa - host.features

    def runs_on(self, host: Host) -> bool:
        """Whether the host has this architecture and these ISA features.

        It may have another system: ``target <= host`` compares that as well.
        """
        expect("host", host, Host, "a Host")
        return host.arch == self.arch and not self.missing_on(host)

    def __le__(self, other: Target | Host) -> bool:
        target = _as_target(other)
        if target is None:
            return NotImplemented
        return self._platform == target._platform and self.features.isa <= target.features.isa

    def __ge__(self, other: Target | Host) -> bool:
        target = _as_target(other)
        return NotImplemented if target is None else target <= self

    def __lt__(self, other: Target | Host) -> bool:
        return self <= other and not self >= other

    def __gt__(self, other: Target | Host) -> bool:
        return self >= other and not self <= other

    def __and__(self, other: Target | Host) -> Target:
        """Return the target whose code runs on both. Raises TargetError for another architecture or system."""
        target = _as_target(other)
        if target is None:
            return NotImplemented
        if self._platform != target._platform:
            raise TargetError(f"no code runs on both {self.triple} and {target.triple}")
        features = self.features & target.features
        options = tuple(option for option in self.options if option in target.options)
        cpu = level_of(features) or baseline(self.arch)
        if self.cpu == target.cpu or self <= target:  # each may have features that the other lacks: the tuning is one
            cpu = self.cpu
        elif target <= self:
            cpu = target.cpu
        return Target(self.triple, cpu, features, options)

    def __rand__(self, host: Host) -> Target:
        return self & host

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
        expect("text", text, (str, bytes), "JSON, a str")
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

    def create_target_machine(  # noqa: PLR0913
        self,
        *,
        opt: int = 2,
        reloc: str = "default",
        codemodel: str = "jitdefault",
        printmc: bool = False,
        jit: bool = False,
        abiname: str = "",
    ) -> Any:
        """Return llvmlite's TargetMachine for this target; all arguments are those of its ``create_target_machine``.

        ``opt`` is the code generator's effort, 0 to 3. Raises OptionError for a value that llvmlite does not take, and
        TargetError for a triple that it generates no code for, or features without which LLVM would end the process as
        soon as it did (``64bit`` for x86-64); MissingExtraError without llvmlite.
        """
        missing = required_features(self.arch) - self.features
        if missing:
            names = ", ".join(missing)
            raise TargetError(f"{self.triple}: LLVM ends the process instead of generating code without {names}")
        from cpufeat.support.extras import extra

        with extra("aot"):
            from llvmlite import binding
        one_of("opt", opt, (0, 1, 2, 3))
        one_of("reloc", reloc, tuple(sorted(binding.targets.RELOC)))
        one_of("codemodel", codemodel, tuple(sorted(binding.targets.CODEMODEL)))
        one_of("printmc", printmc, (False, True))
        one_of("jit", jit, (False, True))
        expect("abiname", abiname, str, "the name of an ABI, a str")
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
        options = {"opt": opt, "reloc": reloc, "codemodel": codemodel, "printmc": printmc, "jit": jit}
        try:
            target = binding.Target.from_triple(self.triple)
            return target.create_target_machine(self.llvm_cpu(), self.llvm_features(), abiname=abiname, **options)
        except (RuntimeError, UnicodeEncodeError) as error:
            raise TargetError(f"{self.triple}: {error}") from None


def default_triple(request: str) -> str:
    """Return the triple of a request that comes without one: this machine's, or the architecture of the CPU alone.

    Raises TargetError for a name of several architectures, and OSError and DumpError for a bad ``CPUFEAT_MACHINE``.
    """
    from cpufeat.detection.detect import default_machine

    machine = default_machine()
    arch = arch_of(request, machine.arch)
    is_here = arch == machine.arch and has_tables(arch)
    return triple_of(arch, machine.system, machine.libc, machine.version) if is_here else arch


def _option(arch: str, option: str) -> str:
    """Return an option with its name as in the table. Raises TargetError for other text, UnknownNameError."""
    expect("an option", option, str, "+option or -option, a str")
    feature = find(arch, option[1:])
    if option[0] not in "+-" or feature.kind in HARDWARE:
        raise TargetError(f"{option!r} is not + or - and the name of a tuning or code generation flag")
    return option[0] + feature.name


def _as_target(value: object) -> Target | None:
    """Return what a target is compared and combined with: a target, or that of a host; None for anything else."""
    if isinstance(value, Target):
        return value
    return Target.of(value) if isinstance(value, Host) else None
