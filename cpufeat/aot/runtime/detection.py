"""How emitted code reads what a processor can do, as words of bits that the rows of ``features.tsv`` ask about.

It runs while a program is being loaded: it uses nothing above the baseline, and in an ``ifunc`` resolver, before
relocation is complete, no library and no data at an absolute address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.llvm import triples
from cpufeat.support.value import Value
from cpufeat.tables import architecture

if TYPE_CHECKING:
    from cpufeat.aot.llvm.builder import Body
    from cpufeat.features import Feature
    from cpufeat.target import Target


class Field(Value):
    """Bits of a word of 64, and the least number that they must hold."""

    word: str
    low: int = 0
    width: int = 1
    least: int = 1


Condition = tuple[tuple[Field, ...], ...]
"""What must hold for a feature to be usable: one of these, whole. Empty where nothing tells."""


def attributes(target: Target) -> str:
    """Return the attributes of a function that runs on every CPU of the target's architecture.

    An empty ``target-features`` takes the place of the TargetMachine's string: what is left is what the CPU has.
    Of its own accord LLVM calls no C library, and uses no vectors, whose constants would have to be aligned. It is not
    optimized: it runs once, and took more of LLVM's time than many a module (40 ms of 43 for one that was empty).
    """
    general = 'noimplicitfloat noinline nounwind optnone "no-builtins"'
    return f'{general} "target-cpu"="{architecture(target.arch).cpu}" "target-features"="" "tune-cpu"="generic"'


class Reader:
    """What one architecture's code reads on one system."""

    words: tuple[str, ...] = ()
    """The words that are handed to a function that needs them; it reads all others itself."""
    resolver_parameters = ""
    """What an ``ifunc`` resolver is called with."""
    needs_library = False
    """Whether it calls functions of the system's library even in a resolver, where that does not work yet."""

    def __init__(self, target: Target) -> None:
        self.leaf_attributes = attributes(target)
        """Of a function that calls none and leaves the stack as it is."""
        self.attributes = f"{self.leaf_attributes} uwtable"  # it says where a function ends, in a file without symbols
        self.arch, self.system, _ = triples.parts(target.triple)

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return when a feature is usable, by the rules of the Python detection.

        Where the process must ask for it, ``permitted``: only when it has.
        """
        raise NotImplementedError

    def word(self, body: Body, name: str) -> str:
        """Read a word, an i64."""
        return f"%{name}"

    def called(self, body: Body) -> str:
        """Return the arguments for :attr:`words`, in a constructor."""
        return ""

    def resolved(self, body: Body) -> str:
        """Return the arguments for :attr:`words`, in a function that has the parameters of a resolver."""
        return self.called(body)

    def instructions(self) -> str:
        """Define, or declare, what asks the processor and the kernel."""
        raise NotImplementedError

    def helpers(self) -> str:
        """Define what reading words needs besides."""
        return ""


def sysctl(attributes: str) -> str:
    """Define ``i64 @__cpufeat_sysctl(i8*)``: whether a variable of the kernel (sysctl(3)) is 1."""
    return f"""
declare i32 @sysctlbyname(i8*, i8*, i64*, i8*, i64)
define internal i64 @__cpufeat_sysctl(i8* %name) {attributes} {{
  %value = alloca i64
  %length = alloca i64
  store i64 0, i64* %value
  store i64 8, i64* %length
  %bytes = bitcast i64* %value to i8*
  %failed = call i32 @sysctlbyname(i8* %name, i8* %bytes, i64* %length, i8* null, i64 0)
  %number = load i64, i64* %value
  %is.one = icmp eq i64 %number, 1
  %answer = zext i1 %is.one to i64
  ret i64 %answer
}}
"""
