"""An object file that knows what it was compiled for."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from cpufeat import __version__
from cpufeat.aot import constructors, note
from cpufeat.decisions import Decision
from cpufeat.errors import ArtifactError, CpufeatError
from cpufeat.target import Target
from cpufeat.value import Value

if TYPE_CHECKING:
    from cpufeat.aot.library import Library
    from cpufeat.host import Host

_VERSION = 1


class Artifact(Value):
    """Object code with a record of how it came about, which is also in a note inside of it."""

    object: bytes
    """The object file, ELF."""
    target: Target
    """What it was compiled for; its features are all that the code may use."""
    decisions: tuple[Decision, ...]
    """What came out otherwise than was asked."""
    llvm: str
    """The version of LLVM, ``22.1.0``."""

    @classmethod
    def make(cls, code: bytes, target: Target, decisions: tuple[Decision, ...], llvm: str) -> Artifact:
        """Return an artifact of LLVM's output, with the note added. Raises ArtifactError if that is no ELF object."""
        record = {
            "version": _VERSION,
            "cpufeat": __version__,
            "llvm": llvm,
            "target": json.loads(target.to_json()),
            "decisions": [vars(decision) for decision in decisions],
        }
        text = json.dumps(record, separators=(",", ":"))
        return cls(note.add(constructors.modernize(code), text), target, decisions, llvm)

    @classmethod
    def open(cls, file: str | os.PathLike[str] | bytes) -> Artifact:
        """Read an artifact back from a path, or from an object's bytes.

        Raises ArtifactError, which names the path, for what cannot be read, is no ELF file, is damaged, or holds no
        note of cpufeat, or several.
        """
        if isinstance(file, bytes):
            return cls._from_bytes(file)
        try:
            return cls._from_bytes(Path(file).read_bytes())
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{os.fspath(file)}: {getattr(error, 'strerror', None) or error}") from None
        except ArtifactError as error:
            raise ArtifactError(f"{os.fspath(file)}: {error}") from None

    @classmethod
    def _from_bytes(cls, content: bytes) -> Artifact:
        texts = note.read(content)
        if not texts:
            raise ArtifactError("no note of cpufeat: it was compiled by something else")
        if len(texts) > 1:
            raise ArtifactError(f"{len(texts)} notes of cpufeat: it was linked from as many artifacts, open those")
        try:
            record = json.loads(texts[0])
            if record["version"] != _VERSION:
                raise ArtifactError(f"a note of version {record['version']}: this cpufeat reads version {_VERSION}")
            target = Target.from_json(json.dumps(record["target"]))
            decisions = tuple(_decision(fields) for fields in record["decisions"])
            return cls(content, target, decisions, str(record["llvm"]))
        except ArtifactError:
            raise
        except (ValueError, TypeError, KeyError, RecursionError, CpufeatError) as error:
            raise ArtifactError(f"a damaged note: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the object file: whole, or not at all. Raises ArtifactError if it cannot be written."""
        final = Path(path)
        private = final.parent / f".{final.name}.{secrets.token_hex(8)}"
        try:
            with private.open("xb") as file:
                file.write(self.object)
            private.replace(final)
        except OSError as error:
            private.unlink(missing_ok=True)
            raise ArtifactError(f"{final}: {error.strerror or error}") from None

    def load(self, host: Host | None = None) -> Library:
        """Link the code into this process.

        Raises MissingFeaturesError for what the host (this machine, if None) cannot run, ArtifactError for code of
        another architecture or system, and for symbols that this process does not have.
        """
        from cpufeat.aot.library import link

        return link(self, host)

    def __repr__(self) -> str:
        size, target = len(self.object), self.target
        return f"<Artifact of {size} bytes for {target.triple}, {target.cpu}, by LLVM {self.llvm}>"


def _decision(fields: dict[str, object]) -> Decision:
    return Decision(**{name: str(text) for name, text in fields.items()})
