"""Keep an object file with a note of its targets and of the features that it uses: save, open, link and load it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from cpufeat.aot.llvm import triples
from cpufeat.aot.objects import note
from cpufeat.aot.objects.finish import finish
from cpufeat.aot.provenance import is_own
from cpufeat.decisions import Decision
from cpufeat.detection.detect import detect
from cpufeat.detection.host import Host
from cpufeat.detection.systems import ThisMachine
from cpufeat.errors import (
    ArtifactError,
    CpufeatError,
    MissingFeaturesError,
    expect,
    expect_strings,
    one_of,
    positive,
)
from cpufeat.features import FeatureSet
from cpufeat.levels import levels
from cpufeat.resolution import disable
from cpufeat.support import files
from cpufeat.support.value import Value
from cpufeat.support.version import __version__
from cpufeat.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.aot.jit_library import Library
    from cpufeat.aot.toolchain.linker import Kind, Linker

_VERSION = 2
_NOT_IN_A_LABEL = re.compile(r"[^\w.-]", re.ASCII)


class Variant(Value):
    """The code of an artifact for one target."""

    target: Target
    """The features that the code may use, and the CPU that it is tuned for."""
    used: FeatureSet | None = None
    """The features above the baseline whose instructions occur in it; None if that was not determined."""

    @property
    def needs(self) -> Target:
        """The target, with only the features that are used."""
        return self.target if self.used is None else self.target.replace(features=self.used.closed())


class Artifact(Value):
    """Object code, with a record of its compilation that is also in a note inside the object."""

    object: bytes
    """The object file: ELF, COFF or Mach-O."""
    variants: tuple[Variant, ...]
    """Its variants, best first: each has a clone of every function."""
    decisions: tuple[Decision, ...]
    """The differences from the request, with reasons."""
    llvm: str
    """The version of LLVM, ``22.1.0``."""
    dispatch: str = ""
    """How the variant is selected at load time: ``ifunc`` or ``pointer``; empty if there is only one."""
    runtime_override: bool = False
    """Whether variants that use features listed in ``CPUFEAT_DISABLE`` are skipped."""
    name: str = ""
    """The module's name, without folder and suffix; empty if it has none."""

    @property
    def target(self) -> Target:
        """The target of the best variant."""
        return self.variants[0].target

    @property
    def labels(self) -> tuple[str, ...]:
        """The suffix of each variant's functions (``x86-64-v3`` in ``f.x86-64-v3``)."""
        return labels([variant.target for variant in self.variants])

    def finished(self, *, isa_level: str = "") -> Artifact:
        """Return the artifact of LLVM's output with the note added (:mod:`cpufeat.aot.objects.finish`).

        ``isa_level`` is the psABI level that it needs at load time (x86-64 psABI, section 3.1.1), empty for none.
        Raises OptionError for an unknown level, ArtifactError if the object cannot hold a note.
        """
        one_of("isa_level", isa_level, ("", *levels(self.target.arch)))
        record = {
            "version": _VERSION,
            "cpufeat": __version__,
            "llvm": self.llvm,
            "name": self.name,
            "dispatch": self.dispatch,
            "runtime_override": self.runtime_override,
            "variants": [_record(variant) for variant in self.variants],
            "decisions": [vars(decision) for decision in self.decisions],
        }
        text = json.dumps(record, separators=(",", ":"))
        return self.replace(object=finish(self.object, text, isa_level=isa_level))

    @classmethod
    def open(cls, file: str | os.PathLike[str] | bytes) -> Artifact:
        """Read an artifact back from a path, or from an object's bytes.

        Raises OSError, such as FileNotFoundError, for a file that cannot be read; ArtifactError, which names the path,
        for one that is damaged, is neither an object nor a linked file, or does not hold exactly one note of cpufeat.
        """
        expect("file", file, (str, os.PathLike, bytes), "a path, or the content of an object as bytes")
        if isinstance(file, bytes):
            return cls._from_bytes(file)
        try:
            return cls._from_bytes(files.read(file))
        except ValueError as error:
            raise ArtifactError(files.failure(file, error)) from None
        except ArtifactError as error:
            raise ArtifactError(f"{os.fspath(file)}: {error}") from None

    @classmethod
    def all_in(cls, content: bytes) -> tuple[Artifact, ...]:
        """Return every artifact that a file was linked from, each with the whole file as its object.

        Raises ArtifactError for a damaged file or note.
        """
        expect("content", content, bytes, "bytes")
        return tuple(cls._from_note(content, text) for text in note.read(content))

    @classmethod
    def _from_bytes(cls, content: bytes) -> Artifact:
        texts = note.read(content)
        if not texts:
            raise ArtifactError("no note of cpufeat: it was compiled by something else")
        if len(texts) > 1:
            raise ArtifactError(
                f"{len(texts)} notes of cpufeat: it was linked from several artifacts; open those instead"
            )
        return cls._from_note(content, texts[0])

    @classmethod
    def _from_note(cls, content: bytes, text: str) -> Artifact:
        try:
            record = json.loads(text)
            if record["version"] != _VERSION:
                raise ArtifactError(f"a note of version {record['version']}: this cpufeat reads version {_VERSION}")
            variants = tuple(_variant(fields) for fields in record["variants"])
            decisions = tuple(_decision(fields) for fields in record["decisions"])
            if not variants:
                raise ArtifactError("a damaged note: it lists no variant")
            return cls(
                object=content,
                variants=variants,
                decisions=decisions,
                llvm=str(record["llvm"]),
                dispatch=str(record["dispatch"]),
                runtime_override=bool(record["runtime_override"]),
                name=str(record["name"]),
            )
        except ArtifactError:
            raise
        except (ValueError, TypeError, KeyError, RecursionError, CpufeatError) as error:
            raise ArtifactError(f"a damaged note: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the object file, completely or not at all. Raises ArtifactError if it cannot be written."""
        expect("path", path, (str, os.PathLike), "a path")
        try:
            files.write(path, self.object)
        except (OSError, ValueError) as error:
            raise ArtifactError(files.failure(path, error)) from None

    def link(
        self,
        output: str | os.PathLike[str],
        *,
        kind: Kind = "executable",
        linker: Linker | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """Link the code into an executable or a shared library: see :func:`cpufeat.aot.link`."""
        link(self, output, kind=kind, linker=linker, arguments=arguments)

    def load(self, host: Host | None = None) -> Library:
        """Link the code into this process.

        Unless this process compiled it or found it in the cache, the code is decoded first: its note is not believed.
        ``host`` None is this machine, also where ``CPUFEAT_MACHINE`` names another. Raises MissingFeaturesError for
        code that the host cannot run, ArtifactError for code of another architecture or system, for damaged objects,
        for code that the decoder does not know, and for undefined symbols.
        """
        from cpufeat.aot import jit_library

        expect("host", host, (Host, type(None)), "a Host or None")
        host = host or detect(ThisMachine())
        host_triple = host.triple
        differs = triples.conflict(self.target.triple, host_triple)
        if differs:
            raise ArtifactError(f"code for {self.target.triple} does not run on {host_triple}: {differs}")
        picked = self.selected_on(host)
        own = is_own(self.object, self.variants)
        if not own:
            self._check_runs(picked, host)
        return jit_library.link(self.object, self.labels, picked, checked=own)

    def _check_runs(self, picked: int, host: Host) -> None:
        """Raise an error if the code of a variant uses, unchecked, what the host lacks or the note denies."""
        from cpufeat.aot.used_features import unguarded_beyond
        from cpufeat.auditing.auditor import AUDITED

        if self.target.arch not in AUDITED:
            return
        variant = self.variants[picked]
        noted = variant.target.features if variant.used is None else variant.used
        unexpected = unguarded_beyond(self.name, self.object, noted & host.features, self.labels, picked)
        missing = {name: str(why) for name, why in host.missing(unexpected - host.features).items()}
        if missing:
            raise MissingFeaturesError("the code of this artifact, whatever its note says,", missing)
        if unexpected:
            used = ", ".join(unexpected)
            raise ArtifactError(f"its code uses {used}, which its note denies: it was changed after it was compiled")

    def selected_on(self, host: Host) -> int:
        """Return the index of the variant that is selected on a host. Raises MissingFeaturesError if none runs there.

        The last one is selected where no other runs, if it uses nothing that the host lacks. With a run-time override
        the host lacks what ``CPUFEAT_DISABLE`` lists, unless no variant would be left.
        """
        expect("host", host, Host, "a Host")
        *better, last = self.variants
        targets = [*(variant.target for variant in better), last.needs]
        runs = [index for index, target in enumerate(targets) if target.runs_on(host)]
        if not runs:
            missing = {name: str(why) for name, why in host.missing(last.needs.features.isa).items()}
            raise MissingFeaturesError(f"this artifact, compiled for {last.target.cpu},", missing)
        permitted = disable(host)[0] if self.runtime_override else host
        return next((index for index in runs if targets[index].runs_on(permitted)), runs[-1])

    def __repr__(self) -> str:
        size, cpus = len(self.object), ", ".join(variant.target.cpu for variant in self.variants)
        return f"<Artifact of {size} bytes for {self.target.triple}, {cpus}, by LLVM {self.llvm}>"


def link(  # noqa: PLR0913
    artifacts: Artifact | Iterable[Artifact],
    output: str | os.PathLike[str],
    *,
    kind: Kind = "executable",
    linker: Linker | None = None,
    arguments: Sequence[str] = (),
    time_limit: float = 600.0,
) -> None:
    """Link artifacts into one file, which is written whole or not at all.

    ``kind``
        ``"executable"``: position-independent in ELF, unless ``arguments`` say ``-static`` or ``-no-pie``.
        ``"shared"``: a library. ``"object"``: the object of the only artifact, as it is.
    ``linker``
        ``"cc"``: the system's compiler driver, which links for this machine. ``"zig"``: that of the package
        ``ziglang``, which links for every triple. By default ``cc`` for this machine; but ``zig`` for a triple that
        names a version of the C library (``x86_64-unknown-linux-gnu2.28``), which ``cc`` would ignore.
    ``arguments``
        For the driver, after the objects: ``-lm``, ``-Wl,-rpath,...``, more objects and libraries.
    ``time_limit``
        Seconds. Zig takes a minute to build the C library of a target that it meets for the first time.

    What the linker warns of is a CpufeatWarning. Raises LinkError, with the linker's own words, if it refuses, hangs or
    is missing; ArtifactError for artifacts that do not go together, for what cannot be written, and for a linked file
    that lost an artifact's note, or the alignment of a section; OptionError for another ``kind``, ``linker`` or time
    limit; TargetError for a triple that ``cc`` or Zig cannot link for; MissingExtraError without ``ziglang``.
    """
    from cpufeat.aot.toolchain import linker as linkers

    expect("artifacts", artifacts, (Artifact, Iterable), "an Artifact or a list of them")
    together = [artifacts] if isinstance(artifacts, Artifact) else list(artifacts)
    for artifact in together:
        expect("an artifact", artifact, Artifact, "an Artifact")
    expect("output", output, (str, os.PathLike), "a path")
    one_of("kind", kind, ("executable", "shared", "object"))
    one_of("linker", linker, ("cc", "zig", None))
    expect_strings("arguments", arguments)
    positive("time_limit", time_limit)
    inputs = [
        linkers.Input(artifact.object, artifact.target.triple, artifact.name, bool(artifact.dispatch))
        for artifact in together
    ]
    linkers.link(inputs, output, kind=kind, linker=linker, arguments=arguments, time_limit=time_limit)


def labels(targets: Sequence[Target]) -> tuple[str, ...]:
    """Return a unique label for each target: its CPU, with a number if several have the same CPU."""
    unique, count = [], Counter[str]()
    for target in targets:
        cpu = _NOT_IN_A_LABEL.sub("_", target.cpu)
        unique.append(f"{cpu}.{count[cpu]}" if count[cpu] else cpu)
        count[cpu] += 1
    return tuple(unique)


def _record(variant: Variant) -> dict[str, object]:
    used = None if variant.used is None else list(variant.used)
    return {"target": json.loads(variant.target.to_json()), "used": used}


def _variant(fields: dict[str, object]) -> Variant:
    target = Target.from_json(json.dumps(fields["target"]))
    used = fields["used"]
    return Variant(target, None if used is None else FeatureSet(target.arch, map(str, cast("list[object]", used))))


def _decision(fields: dict[str, object]) -> Decision:
    return Decision(**{name: str(text) for name, text in dict(fields).items()})
