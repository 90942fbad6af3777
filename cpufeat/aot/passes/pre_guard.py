"""What runs before a guard can (:mod:`cpufeat.aot.runtime.guard`): it must do without what the guard asks for.

That are resolvers of ``ifunc`` symbols, constructors of priority 0, which is the guard's own, and what stands in
``.preinit_array``, with all that they call by name. The functions whose addresses they only hand out run later.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cpufeat.aot.llvm import module_text
from cpufeat.errors import CompileError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNS = re.compile(r" ifunc |llvm\.global_ctors|\.preinit_array")
_IFUNC = re.compile(
    rf"^{module_text.NAME} = (?:[\w()]+ )*?ifunc .* ({module_text.NAME})(?:, |$)", re.MULTILINE | re.ASCII
)
_CONSTRUCTORS = re.compile(r"^@llvm\.global_ctors = .*$", re.MULTILINE)
_FIRST = re.compile(rf"\bi32 0, (?:ptr|void \(\)\*) ({module_text.NAME})", re.ASCII)
_LISTED = re.compile(rf"^{module_text.NAME} = .* (\S.*), section \"\.preinit_array[\".].*$", re.MULTILINE | re.ASCII)
_NAME = re.compile(module_text.NAME, re.ASCII)
_GROUP = re.compile(r"^attributes #(\d+) = ", re.MULTILINE)


def may_have_some(text: str) -> bool:
    """Whether IR text may have anything of the kind."""
    return bool(_SIGNS.search(text))


def for_baseline(text: str, cpu: str) -> str:
    """Return a module, as LLVM prints it, in which all that runs early is for a CPU, and for no features beyond it.

    No function has a target of its own yet. Raises CompileError for what LLVM was not known to print.
    """
    try:
        functions, rest = module_text.read(text)
    except ValueError as error:
        raise CompileError(str(error)) from None
    early, waiting = set[str](), [name for name in _roots(rest) if name in functions]
    while waiting:
        name = waiting.pop()
        if name not in early:
            early.add(name)
            tokens = module_text.TOKEN.findall(functions[name].body)
            waiting += [token[:-1] for token in tokens if token.endswith("(") and token[:-1] in functions]
    if not early:
        return text
    group = 1 + max(map(int, _GROUP.findall(rest)), default=-1)
    own = f'attributes #{group} = {{ "target-cpu"="{cpu}" "target-features"="" "tune-cpu"="generic" }}\n'
    changed = (one.with_attributes(f"#{group}") if name in early else one for name, one in functions.items())
    return "".join((rest, own, *map(str, changed)))


def _roots(rest: str) -> Iterator[str]:
    yield from _IFUNC.findall(rest)
    for line in _CONSTRUCTORS.findall(rest):
        yield from _FIRST.findall(line)
    for listed in _LISTED.findall(rest):
        yield from _NAME.findall(listed)
