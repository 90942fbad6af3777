"""The symbol by which everything else knows a function that is there once for each target.

``pointer``: ``f`` jumps to where ``f.pointer`` points. That is at first ``f.lazy``, which asks ``f.resolver``, leaves
the answer in the pointer and goes on there: right at any time, also before constructors run. Two threads that do so at
once store the same. A constructor of the earliest priority picks when the program is loaded.

``ifunc``: the loader calls ``f.resolver`` when it binds ``f``. Where that would not do, ``f`` is a function that jumps
to the ``ifunc`` ``f.ifunc``. Linkers give an ``ifunc`` that other objects cannot see one address in code and another in
data, and each alias an address of its own. And glibc relocates libraries before the program: it does not start one with
an ``ifunc`` that a library refers to at once (``-z now``, ``LD_BIND_NOW``, data), so that a module with ``main`` shows
none.

Of all these only what defines the symbol ``f`` is in the comdat of ``f``: the jump to a clone may be inlined elsewhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.aot.llvm import module_text, triples
from cpufeat.aot.llvm.module_text import suffixed
from cpufeat.aot.runtime.detection import feature_tests
from cpufeat.errors import TargetError

if TYPE_CHECKING:
    from typing import Literal

    from cpufeat.aot.llvm.module_text import Function
    from cpufeat.target import Target

    Mechanism = Literal["ifunc", "pointer"]

_IFUNC_LOADERS = frozenset((("linux", "gnu"), ("linux", "gnux32"), ("linux", "android"), ("freebsd", "")))
"""System and environment where the loader calls resolvers: glibc, Bionic, FreeBSD's. musl's does not."""
_NO_LOCAL_IFUNC = frozenset(("i686",))
"""Linkers make a jump to an ``ifunc`` go through the PLT, which expects the GOT's address in EBX there; LLVM does not
know of it where the ``ifunc`` is local."""
_FORWARDS_COPIES = 22
"""The first LLVM whose ``musttail`` hands on what is passed by value in memory: others overwrite the return address
(https://github.com/llvm/llvm-project/issues/72390)."""
_FREE_OF_HELD = frozenset(
    (
        *("fastcc", "tailcc", "swiftcc", "swifttailcc", "ghccc", "win64cc", "x86_64_sysvcc", "aarch64_vector_pcs"),
        *("x86_stdcallcc", "x86_fastcallcc", "x86_thiscallcc", "x86_vectorcallcc", "x86_regcallcc"),
    )
)
"""Calling conventions in which a function may change the registers that hold its arguments. In others (``coldcc``,
``preserve_mostcc``) LLVM restores before a jump what the jump needs."""
_VECTOR_BITS = 128
_VECTORS_NEED = {"i686": "+sse2"}
"""Without which an architecture has no such registers, or has nothing but ``float`` in them."""
_HELD = re.compile(r" swift(?:self|error)\b")
_WIDE = re.compile(r"<.*>|i(?:6[5-9]|[7-9]\d|\d{3,})|x86_fp80|fp128")
"""What 64-bit Windows passes by reference, and LLVM, handing it on, in its own stack frame."""
INITIALIZER = """
@llvm.global_ctors = appending global [1 x { i32, void ()*, i8* }] \
[{ i32, void ()*, i8* } { i32 0, void ()* @__cpufeat_initialize, i8* null }]
declare i32 @__cpufeat_pick()
define internal void @__cpufeat_initialize() nounwind uwtable {
  %index = call i32 @__cpufeat_pick()
  ret void
}
"""
"""Picks when the program is loaded."""


def mechanism(target: Target, wanted: Mechanism | None, *, runtime_override: bool) -> Mechanism:
    """Return how functions are dispatched on a target's system.

    Raises TargetError where it cannot be as wanted, or where emitted code cannot tell what a machine can run.
    """
    arch, system, environment = triples.parts(target.triple)
    has_ifunc = (system, environment) in _IFUNC_LOADERS and arch not in _NO_LOCAL_IFUNC
    if wanted == "ifunc" and not has_ifunc:
        why = "ifuncs are not known to work there"
        raise TargetError(f'{target.triple}: {why}: use dispatch="pointer", which does anywhere')
    works = has_ifunc and not runtime_override and not feature_tests(target).needs_library
    return wanted or ("ifunc" if works else "pointer")


def same_vector(triple: str, features: str) -> int:
    """Return the bits of a vector that is sure to be passed in the same registers by all that has LLVM's features."""
    need = _VECTORS_NEED.get(triples.parts(triple)[0])
    return _VECTOR_BITS if need is None or need in features.split(",") else 0


class Dispatch(NamedTuple):
    """How the functions of a module are dispatched."""

    mechanism: str
    labels: tuple[str, ...]
    """What the names of clones end in, best first."""
    parameters: str
    """What a resolver is called with, ``i64 %hwcap, ...``."""
    alignment: int
    """Of a pointer, in bytes."""
    llvm: int
    """The major version of the LLVM that this is for."""
    windows: bool
    """Whether it is for Windows."""
    vector: int
    """Bits of the largest vector that all code passes in the same registers, 0 for none: half precision neither."""

    @property
    def helpers(self) -> tuple[str, ...]:
        """What the names of further definitions for a function end in."""
        return ("resolver", "pointer", "lazy") if self.mechanism == "pointer" else ("resolver", "ifunc")

    def declaration(self) -> str:
        """Declare what picks a target: it returns the index of a label, or one more if none can be run."""
        return f"declare i32 @__cpufeat_pick({self.parameters})\n"

    def symbol(self, function: Function, attributes: str, *, alone: bool) -> str:
        """Define the symbol of a function.

        ``attributes`` are what every function of the module must have; ``alone`` is whether other objects can see the
        symbol, see no other of the same address, and may find an ``ifunc`` there.
        """
        resolver = suffixed(function.name, "resolver")
        if self.mechanism == "pointer":
            return self._resolver(function, resolver, attributes) + self._by_pointer(function, resolver, attributes)
        if alone:
            group = module_text.comdat(function.tail, function.name)
            asked = self._resolver(function, resolver, f"{attributes} comdat({group})" if group else attributes)
            return asked + self._ifunc(function, function.name, function.linkage, resolver)
        hidden = suffixed(function.name, "ifunc")
        asked = self._resolver(function, resolver, attributes) + self._ifunc(function, hidden, "internal", resolver)
        return f"{asked}{self._jump(function, attributes, '', hidden)}"

    def _resolver(self, function: Function, name: str, tail: str) -> str:
        """Define what returns the address of the clone that was picked, or the last one's if none can be run.

        A ``switch`` might become a table of addresses, which need not be relocated yet when an ``ifunc`` is resolved.
        """
        kind = f"{function.type}*"
        *others, chosen = (f"{kind} {suffixed(function.name, label)}" for label in self.labels)
        lines = [f"  %picked = call i32 @__cpufeat_pick({self.parameters})"]
        for index, clone in reversed(list(enumerate(others))):
            lines.append(f"  %is{index} = icmp eq i32 %picked, {index}")
            lines.append(f"  %from{index} = select i1 %is{index}, {clone}, {chosen}")
            chosen = f"{kind} %from{index}"
        body = "\n".join([*lines, f"  ret {chosen}"])
        return f"define internal {kind} {name}({self.parameters}) {tail} {{\n{body}\n}}\n"

    def _ifunc(self, function: Function, name: str, linkage: str, resolver: str) -> str:
        """Define an ``ifunc``. LLVM 14 does not take a resolver with parameters for what it is."""
        asked, kind = (
            ", ".join(map(module_text.type_of, module_text.parameters(self.parameters))),
            f"{function.type}* ()*",
        )
        address = f"bitcast ({function.type}* ({asked})* {resolver} to {kind})" if asked else resolver
        return f"{name} = {linkage} ifunc {function.type}, {kind} {address}\n"

    def _by_pointer(self, function: Function, resolver: str, attributes: str) -> str:
        kind = function.type
        pointer, lazy = suffixed(function.name, "pointer"), suffixed(function.name, "lazy")
        place = f"{kind}** {pointer} unordered, align {self.alignment}"
        load = f"  %callee = load atomic {kind}*, {place}\n"
        ask = f"  %callee = call {kind}* {resolver}()\n  store atomic {kind}* %callee, {place}\n"
        first = function.local(lazy)._replace(tail="")
        return (
            f"{pointer} = internal global {kind}* {lazy}\n"
            f"{self._jump(function, attributes, load, '%callee')}{self._jump(first, attributes, ask, '%callee')}"
        )

    def _obstacle_to_a_jump(self, function: Function) -> str:
        """Return what it is about a function that LLVM does not hand on right by ``musttail``, empty if nothing is."""
        text = " ".join(function.parameters)
        convention = module_text.words(function.convention)[:1]
        by_reference = self.windows or convention in (["win64cc"], ["x86_vectorcallcc"])
        kinds = [module_text.type_of(one) for one in function.parameters]
        if convention and convention[0].endswith("cc") and convention[0] not in _FREE_OF_HELD:
            return convention[0]
        if self.llvm < _FORWARDS_COPIES and " byval(" in text:
            return "copies (byval)"
        if _HELD.search(text):
            return "values in registers that it must leave as they are (swiftself, swifterror)"
        if by_reference and any(_WIDE.fullmatch(kind) for kind in kinds):
            return "values that are passed by reference to a copy"
        return "" if _is_returned_in_registers(function.returns, 8 * self.alignment) else function.returns

    def _jump(self, function: Function, attributes: str, before: str, callee: str) -> Function:
        """Return a function of the same name that hands on all that it is called with.

        Raises ValueError for one that cannot, with this LLVM.
        """
        parameters = [
            one if one == "..." else f"{one.rpartition(' ')[0]} %a{number}"
            for number, one in enumerate(function.parameters)
        ]
        is_variadic = parameters[-1:] == ["..."]
        obstacle = self._obstacle_to_a_jump(function)
        if obstacle and is_variadic:
            raise ValueError(f"LLVM {self.llvm} cannot hand on both variable arguments and {obstacle}")
        how = "notail" if obstacle else "musttail"
        kind = function.type if is_variadic else function.returns
        call = f"{function.convention} {kind} {callee}({', '.join(parameters)})"
        result, value = ("", "void") if function.returns == "void" else ("%result = ", f"{function.returns} %result")
        return function._replace(
            parameters=tuple(parameters),
            tail="".join(f" {clause}" for clause in _of_symbol(function.tail)),
            body=f"{{\n{before}  {result}{how} call {call}\n  ret {value}\n}}",
        ).with_attributes(attributes)


def _is_returned_in_registers(kind: str, pointer: int) -> bool:
    """Whether a type is at most two numbers, addresses or vectors, together no larger than two addresses.

    ``pointer`` is the size of an address in bits. All calling conventions have registers for so much.
    """
    array = _ARRAY.fullmatch(kind)
    members = module_text.parameters(kind[2:-2]) if kind.startswith("{ ") else [kind]
    parts = [array[2]] * int(array[1]) if array and len(array[1]) == 1 else members
    return len(parts) <= 2 and sum(_bits(part, pointer) for part in parts) <= 2 * pointer


def _bits(kind: str, pointer: int) -> int:
    number = _NUMBER.fullmatch(kind)
    if number:
        return int(number[1] or _FLOATING_POINT[kind])
    is_address = kind.startswith("ptr") or kind.endswith("*")
    return pointer if is_address else 0 if _REGISTER.fullmatch(kind) else _FAR_TOO_MANY


_ARRAY = re.compile(r"\[(\d+) x (.*)\]")
_FLOATING_POINT = {"half": 16, "bfloat": 16, "float": 32, "double": 64, "x86_fp80": 80, "fp128": 128}
_NUMBER = re.compile(rf"i(\d+)|{'|'.join(_FLOATING_POINT)}")
_REGISTER = re.compile(r"void|<\d+ x \w+>")
_FAR_TOO_MANY = 1 << 20

_CLAUSE = re.compile(
    r"(?:local_)?unnamed_addr|#\d+|section|partition|comdat(?:\(.*)?|align|gc|prefix|prologue|personality|![a-zA-Z].*"
)
_OF_BODY = re.compile(r"#\d+|gc|prologue|personality|!dbg|!prof")


def _of_symbol(tail: str) -> list[str]:
    """Return the clauses after a definition's parameters that speak of its symbol and not of its body."""
    clauses: list[str] = []
    for word in module_text.words(tail):
        clauses.append(word if _CLAUSE.fullmatch(word) else f"{clauses.pop()} {word}")
    return [clause for clause in clauses if not _OF_BODY.match(clause)]
