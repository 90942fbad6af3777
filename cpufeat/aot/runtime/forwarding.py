"""Emit functions that forward all arguments to another function, by a ``musttail`` call where LLVM supports it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.aot.llvm import syntax, triples

if TYPE_CHECKING:
    from cpufeat.aot.llvm.module_text import Function

_FORWARDS_BYVAL = 22
"""The first LLVM whose ``musttail`` forwards what is passed by value in memory: others overwrite the return address
(https://github.com/llvm/llvm-project/issues/72390)."""
_CLOBBERS_ARGUMENTS = frozenset(
    (
        *("fastcc", "tailcc", "swiftcc", "swifttailcc", "ghccc", "win64cc", "x86_64_sysvcc", "aarch64_vector_pcs"),
        *("x86_stdcallcc", "x86_fastcallcc", "x86_thiscallcc", "x86_vectorcallcc", "x86_regcallcc"),
    )
)
"""Calling conventions in which a function may change the registers that hold its arguments. In others (``coldcc``,
``preserve_mostcc``) LLVM restores before a jump what the jump needs."""
_PORTABLE_VECTOR_BITS = 128
_PORTABLE_VECTORS_NEED = {"i686": "+sse2"}
"""The feature without which an architecture has no such registers, or has nothing but ``float`` in them."""
_PRESERVED_ARGUMENT = re.compile(r" swift(?:self|error)\b")
_BY_REFERENCE = re.compile(r"<.*>|i(?:6[5-9]|[7-9]\d|\d{3,})|x86_fp80|fp128")
"""Types that 64-bit Windows passes by reference, and LLVM, forwarding it, copies to its own stack frame."""
_ARRAY = re.compile(r"\[(\d+) x (.*)\]")
_FLOAT_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64, "x86_fp80": 80, "fp128": 128}
_NUMBER = re.compile(rf"i(\d+)|{'|'.join(_FLOAT_BITS)}")
_ONE_REGISTER = re.compile(r"void|<\d+ x \w+>")
_MEMORY_BITS = 1 << 20
"""More than any registers hold."""
_CLAUSE = re.compile(
    r"(?:local_)?unnamed_addr|#\d+|section|partition|comdat(?:\(.*)?|align|gc|prefix|prologue|personality|![a-zA-Z].*"
)
_OF_BODY = re.compile(r"#\d+|gc|prologue|personality|!dbg|!prof")


class Abi(NamedTuple):
    """How a triple's code passes arguments, as far as forwarding them depends on it."""

    pointer_size: int
    """Bytes, which is the alignment as well."""
    llvm: int
    """The major version of the LLVM that generates the code."""
    windows: bool
    """Whether it is for Windows."""
    portable_vector_bits: int
    """The largest vector that all targets pass in the same registers; 0 for none, and half precision neither."""


def portable_vector_bits(triple: str, features: str) -> int:
    """Return the largest vector that all code with LLVM's ``features`` passes in the same registers, in bits."""
    need = _PORTABLE_VECTORS_NEED.get(triples.parts(triple)[0])
    return _PORTABLE_VECTOR_BITS if need is None or need in features.split(",") else 0


def forwarding(function: Function, abi: Abi, *, attributes: str, before: str, callee: str) -> Function:
    """Return a function of the same name whose body calls another with all the arguments.

    ``before`` are the instructions that come first, and may define the ``callee``. Raises ValueError for a function
    whose arguments this LLVM cannot forward.
    """
    parameters = [
        parameter if parameter == "..." else f"{parameter.rpartition(' ')[0]} %a{number}"
        for number, parameter in enumerate(function.parameters)
    ]
    is_variadic = parameters[-1:] == ["..."]
    obstacle = _obstacle(function, abi)
    if obstacle and is_variadic:
        raise ValueError(f"LLVM {abi.llvm} cannot forward both variable arguments and {obstacle}")
    marker = "notail" if obstacle else "musttail"
    type_ = function.type if is_variadic else function.returns
    call = f"{function.convention} {type_} {callee}({', '.join(parameters)})"
    result, value = ("", "void") if function.returns == "void" else ("%result = ", f"{function.returns} %result")
    return function._replace(
        parameters=tuple(parameters),
        tail="".join(f" {clause}" for clause in _symbol_clauses(function.tail)),
        body=f"{{\n{before}  {result}{marker} call {call}\n  ret {value}\n}}",
    ).with_attributes(attributes)


def _obstacle(function: Function, abi: Abi) -> str:
    """Return the reason why LLVM does not forward a function correctly by ``musttail``, empty if there is none."""
    text = " ".join(function.parameters)
    convention = "".join(syntax.words(function.convention)[:1])
    passes_by_reference = abi.windows or convention in ("win64cc", "x86_vectorcallcc")
    if convention.endswith("cc") and convention not in _CLOBBERS_ARGUMENTS:
        return convention
    if abi.llvm < _FORWARDS_BYVAL and " byval(" in text:
        return "copies (byval)"
    if _PRESERVED_ARGUMENT.search(text):
        return "values in registers that it must preserve (swiftself, swifterror)"
    if passes_by_reference and any(
        _BY_REFERENCE.fullmatch(syntax.type_of(parameter)) for parameter in function.parameters
    ):
        return "values that are passed by reference to a copy"
    return "" if _is_returned_in_registers(function.returns, 8 * abi.pointer_size) else function.returns


def _is_returned_in_registers(type_: str, pointer_bits: int) -> bool:
    """Whether a type is at most two numbers, addresses or vectors, together no larger than two addresses.

    All calling conventions return that much in registers.
    """
    array = _ARRAY.fullmatch(type_)
    members = syntax.parameters(type_[2:-2]) if type_.startswith("{ ") else [type_]
    parts = [array[2]] * int(array[1]) if array and len(array[1]) == 1 else members
    return len(parts) <= 2 and sum(_bits(part, pointer_bits) for part in parts) <= 2 * pointer_bits


def _bits(type_: str, pointer_bits: int) -> int:
    number = _NUMBER.fullmatch(type_)
    if number:
        return int(number[1] or _FLOAT_BITS[type_])
    if type_.startswith("ptr") or type_.endswith("*"):
        return pointer_bits
    return 0 if _ONE_REGISTER.fullmatch(type_) else _MEMORY_BITS


def _symbol_clauses(tail: str) -> list[str]:
    """Return the clauses after a definition's parameters that are about its symbol and not about its body."""
    clauses: list[str] = []
    for word in syntax.words(tail):
        clauses.append(word if _CLAUSE.fullmatch(word) else f"{clauses.pop()} {word}")
    return [clause for clause in clauses if not _OF_BODY.match(clause)]
