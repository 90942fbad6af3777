"""Find what a file loads, in the way of its format."""

from __future__ import annotations

from cpufeat.running.dependencies.darwin import darwin_dependencies
from cpufeat.running.dependencies.dependency import Dependencies
from cpufeat.running.dependencies.elf_closure import elf_dependencies
from cpufeat.running.dependencies.windows import windows_dependencies
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.auditing.report import Audit
    from cpufeat.features import FeatureSet
    from cpufeat.running.dependencies.root import Root


def dependencies(audit: Audit, file: str, content: bytes, root: Root, available: FeatureSet) -> Dependencies:
    """Return what is loaded with a file; nothing with an object.

    ``file`` is the path, ``content`` and ``audit`` are those of the part of it that the CPU runs. Raises AuditError if
    it is damaged.
    """
    if audit.kind not in ("executable", "library"):
        return Dependencies()
    if audit.format == "ELF":
        return elf_dependencies(content, file, root, available)
    if audit.format == "PE":
        return windows_dependencies(content, file, root)
    return darwin_dependencies(content, file, root, available.arch)
