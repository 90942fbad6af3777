"""Make a ``Recording`` of a saved output of lscpu, text or JSON; :mod:`cpufeat.detection.probe.lscpu` parses it."""

from __future__ import annotations

from cpufeat.detection.dumps.cpuinfo import infer_arch
from cpufeat.detection.probe import lscpu
from cpufeat.detection.recording import Recording
from cpufeat.errors import DumpError

LABELS = ("Architecture", "CPU op-mode(s)", "Byte Order", "On-line CPU(s) list")
"""Labels by which it is recognized."""


def read(text: str, path: str) -> Recording:
    """Return the machine with this output as the file ``lscpu``. Raises DumpError for JSON that is not lscpu's."""
    content = text.encode()
    try:
        fields = lscpu.fields(content)
    except ValueError as error:
        raise DumpError(f"{path}: {error}") from None
    arch = fields.get("Architecture") or infer_arch({"flags": fields.get("Flags", "")})
    return Recording(arch="i686" if arch in ("i386", "i486", "i586") else arch, files={"lscpu": content})
