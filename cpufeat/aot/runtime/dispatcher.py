"""Emit the dispatcher symbol of a multiversioned function: an ifunc, or a jump through a lazily resolved pointer.

``pointer``: ``f`` jumps to where ``f.pointer`` points. That is at first ``f.lazy``, which calls ``f.resolver``, stores
the answer in the pointer and jumps there: right at any time, also before constructors run. Two threads that do so at
once store the same. A constructor of the earliest priority selects when the program is loaded.

``ifunc``: the loader calls ``f.resolver`` when it binds ``f``. Where that would not do, ``f`` is a function that jumps
to the ``ifunc`` ``f.ifunc``. Linkers give an ``ifunc`` that other objects cannot see one address in code and another in
data, and each alias an address of its own. And glibc relocates libraries before the program: it does not start one with
an ``ifunc`` that a library refers to at once (``-z now``, ``LD_BIND_NOW``, data), so that a module with ``main``
exports none.

Only the definition of ``f`` itself is in the comdat of ``f``: the jump to a clone may be inlined elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cpufeat.aot.llvm import syntax, triples
from cpufeat.aot.llvm.module_text import Function, Module
from cpufeat.aot.llvm.syntax import suffixed
from cpufeat.aot.runtime.detection import feature_tests
from cpufeat.aot.runtime.forwarding import forwarding
from cpufeat.errors import TargetError

if TYPE_CHECKING:
    from typing import Literal

    from cpufeat.aot.runtime.forwarding import Abi
    from cpufeat.target import Target

    Mechanism = Literal["ifunc", "pointer"]

_IFUNC_LOADERS = frozenset((("linux", "gnu"), ("linux", "gnux32"), ("linux", "android"), ("freebsd", "")))
"""System and environment where the loader calls resolvers: glibc, Bionic, FreeBSD's. musl's does not."""
_NO_LOCAL_IFUNC = frozenset(("i686",))
"""Linkers make a jump to an ``ifunc`` go through the PLT, which expects the GOT's address in EBX there; LLVM does not
know of it where the ``ifunc`` is local."""
INITIALIZER = """
@llvm.global_ctors = appending global [1 x { i32, void ()*, i8* }] \
[{ i32, void ()*, i8* } { i32 0, void ()* @__cpufeat_initialize, i8* null }]
declare i32 @__cpufeat_pick()
define internal void @__cpufeat_initialize() nounwind uwtable {
  %index = call i32 @__cpufeat_pick()
  ret void
}
"""
"""The module whose constructor selects when the program is loaded."""


def mechanism(target: Target, requested: Mechanism | None, *, runtime_override: bool) -> Mechanism:
    """Return how functions are dispatched on a target's system: as requested, or if that is None, the best that works.

    Raises TargetError for a mechanism that does not work there, and where emitted code cannot detect features.
    """
    arch, system, environment = triples.parts(target.triple)
    has_ifunc = (system, environment) in _IFUNC_LOADERS and arch not in _NO_LOCAL_IFUNC
    if requested == "ifunc" and not has_ifunc:
        why = "ifuncs are not known to work there"
        raise TargetError(f'{target.triple}: {why}: use dispatch="pointer", which works everywhere')
    works = has_ifunc and not runtime_override and not feature_tests(target).needs_library
    return requested or ("ifunc" if works else "pointer")


class Dispatch(NamedTuple):
    """How the functions of a module are dispatched."""

    mechanism: str
    labels: tuple[str, ...]
    """The suffixes of the clones' names, best first."""
    parameters: str
    """The parameters of a resolver, ``i64 %hwcap, ...``."""
    abi: Abi

    @property
    def helpers(self) -> tuple[str, ...]:
        """The suffixes of further definitions for a function."""
        return ("resolver", "pointer", "lazy") if self.mechanism == "pointer" else ("resolver", "ifunc")

    def declaration(self) -> str:
        """Declare what selects a target: it returns the index of a label, or one more than the last if none can run."""
        return f"declare i32 @__cpufeat_pick({self.parameters})\n"

    def symbol(self, function: Function, attributes: str, *, may_be_ifunc: bool) -> Module:
        """Return the definitions of a function's dispatched symbol.

        ``attributes`` are those that every function of the module must have; ``may_be_ifunc`` is whether the symbol is
        exported, is the only one of its address, and may be an ``ifunc`` for all that refer to it. Raises ValueError
        for a function whose arguments cannot be forwarded.
        """
        resolver = self._resolver(function, attributes)
        if self.mechanism == "pointer":
            return self._by_pointer(function, resolver, attributes)
        if may_be_ifunc:
            group = syntax.comdat(function.tail, function.name)
            resolver = self._resolver(function, f"{attributes} comdat({group})" if group else attributes)
            return _module(self._ifunc(function, function.name, function.linkage, resolver), resolver)
        local = suffixed(function.name, "ifunc")
        jump = forwarding(function, self.abi, attributes=attributes, before="", callee=local)
        return _module(self._ifunc(function, local, "internal", resolver), resolver, jump)

    def _resolver(self, function: Function, tail: str) -> Function:
        """Define what returns the address of the clone that was selected, or the last one's if none can run.

        A ``switch`` might become a table of addresses, which need not be relocated yet when an ``ifunc`` is resolved.
        """
        pointer = f"{function.type}*"
        *better, chosen = (f"{pointer} {suffixed(function.name, label)}" for label in self.labels)
        lines = [f"  %picked = call i32 @__cpufeat_pick({self.parameters})"]
        for index, clone in reversed(list(enumerate(better))):
            lines.append(f"  %is{index} = icmp eq i32 %picked, {index}")
            lines.append(f"  %from{index} = select i1 %is{index}, {clone}, {chosen}")
            chosen = f"{pointer} %from{index}"
        return Function(
            name=suffixed(function.name, "resolver"),
            linkage="internal",
            dso_local="",
            visibility="",
            storage="",
            convention="",
            returns=pointer,
            parameters=tuple(syntax.parameters(self.parameters)),
            tail=f" {tail}",
            body="\n".join(["{", *lines, f"  ret {chosen}", "}"]),
        )

    def _ifunc(self, function: Function, name: str, linkage: str, resolver: Function) -> str:
        """Define an ``ifunc``. LLVM 14 accepts a resolver with parameters only by a cast."""
        expected = f"{function.type}* ()*"
        address = f"bitcast ({resolver.type}* {resolver.name} to {expected})" if resolver.parameters else resolver.name
        return f"{name} = {linkage} ifunc {function.type}, {expected} {address}\n"

    def _by_pointer(self, function: Function, resolver: Function, attributes: str) -> Module:
        type_, pointer, lazy = function.type, suffixed(function.name, "pointer"), suffixed(function.name, "lazy")
        place = f"{type_}** {pointer} unordered, align {self.abi.pointer_size}"
        load = f"  %callee = load atomic {type_}*, {place}\n"
        resolve = f"  %callee = call {type_}* {resolver.name}()\n  store atomic {type_}* %callee, {place}\n"
        first = function.local(lazy)._replace(tail="")
        return _module(
            f"{pointer} = internal global {type_}* {lazy}\n",
            resolver,
            forwarding(function, self.abi, attributes=attributes, before=load, callee="%callee"),
            forwarding(first, self.abi, attributes=attributes, before=resolve, callee="%callee"),
        )


def _module(rest: str, *functions: Function) -> Module:
    return Module({function.name: function for function in functions}, rest)
