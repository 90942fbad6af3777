"""Make a ``Recording`` of a saved output of lscpu, text or JSON, in any language that it speaks.

:mod:`cpufeat.detection.probe.lscpu` parses it.
"""

from __future__ import annotations

from cpufeat.detection.dumps.architecture import infer_arch
from cpufeat.detection.dumps.labels import english, split
from cpufeat.detection.dumps.paste import LSCPU_LISTS, mend, repeated, several_machines
from cpufeat.detection.probe import lscpu
from cpufeat.detection.recording import Recording
from cpufeat.errors import DumpError

_LABELS = (
    "Architecture",
    "CPU op-mode(s)",
    "Byte Order",
    "On-line CPU(s) list",
    "Vendor ID",
    "CPU family",
    "Model name",
    "Flags",
)
"""Labels by which it is recognized."""
_WITHOUT_LISTS = ("ppc", "riscv")
"""The beginnings of architectures whose features lscpu does not list, or did not before version 2.40."""


def is_label(label: str) -> bool:
    """Whether it is one of lscpu's, in any language."""
    return english(label) in _LABELS


def read(text: str, path: str) -> Recording:
    """Return the machine with this output, in English, as the file ``lscpu``.

    Raises DumpError for JSON that is not lscpu's, and for an output without a list of features.
    """
    try:
        mended, decisions = (_of_json(text), ()) if text.lstrip()[:1] == "{" else mend(text)
    except ValueError as error:
        raise DumpError(f"{path}: {error}") from None
    content = mended.encode()
    fields = lscpu.fields(content)
    arch = fields.get("Architecture") or infer_arch({"flags": fields.get("Flags", "")})
    if not arch.startswith(_WITHOUT_LISTS) and not any(fields.get(label) for label in LSCPU_LISTS):
        said = "cut, filtered, or in a language that is not known? Give all of what LC_ALL=C lscpu prints"
        raise DumpError(f"{path}: no label of lscpu is Flags: {said}")
    archs = [value for label, value in lscpu.entries(mended) if label == "Architecture"]
    if len(set(archs)) > 1:
        raise DumpError(
            f"{path}: machines of several architectures ({', '.join(dict.fromkeys(archs))}); give one of them"
        )
    return Recording(
        arch="i686" if arch in ("i386", "i486", "i586") else arch,
        files={"lscpu": content},
        remarks=(*decisions, *several_machines("Architecture", repeated(archs))),
    )


def _of_json(text: str) -> str:
    """Return the content of JSON as lines of text. Raises ValueError for JSON that is not lscpu's."""
    return "".join(f"{english(split(label)[0])}: {' '.join(value.split())}\n" for label, value in lscpu.entries(text))
