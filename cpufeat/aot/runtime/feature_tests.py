"""Define the interface of the run-time tests of features: code that reads words of bits, and the bits of each feature.

Each row of ``features.tsv`` names its bits. The code runs while a program is being loaded: it uses nothing above the
baseline, and in an ``ifunc`` resolver, before relocation is complete, no library and no data at an absolute address.
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
    """A bit field of a 64-bit word, and the smallest number that it must hold."""

    word: str
    low: int = 0
    width: int = 1
    least: int = 1


Condition = tuple[tuple[Field, ...], ...]
"""A feature is usable if all fields of one of these alternatives hold. Empty where no word tells."""


def attributes(target: Target) -> str:
    """Return the attributes of a function that runs on every CPU of the target's architecture.

    An empty ``target-features`` takes the place of the TargetMachine's string: what is left is what the CPU has.
    Of its own accord LLVM calls no C library, and uses no vectors, whose constants would have to be aligned. It is not
    optimized: it runs once, and took more of LLVM's time than many a module (40 ms of 43 for one that was empty).
    """
    general = 'noimplicitfloat noinline nounwind optnone "no-builtins"'
    return f'{general} "target-cpu"="{architecture(target.arch).cpu}" "target-features"="" "tune-cpu"="generic"'


class FeatureTests:
    """The run-time feature tests of one architecture on one system, as text of IR."""

    words: tuple[str, ...] = ()
    """The words that a function takes as parameters; it reads all others itself."""
    resolver_parameters = ""
    """The parameters of an ``ifunc`` resolver."""
    needs_library = False
    """Whether the tests call the system's library, which an ``ifunc`` resolver cannot do yet."""
    in_resolver = False
    """Whether they run in an ``ifunc`` resolver."""

    def __init__(self, target: Target) -> None:
        self.leaf_attributes: str = attributes(target)
        """Attributes of a function that calls no other and leaves the stack as it is."""
        self.attributes: str = f"{self.leaf_attributes} uwtable"
        """Attributes of other functions. In a file without symbols, the unwind table tells where a function ends."""
        self.arch: str
        self.system: str
        self.arch, self.system, _ = triples.parts(target.triple)

    def condition(self, feature: Feature, *, permitted: bool = True) -> Condition:
        """Return the condition under which a feature is usable, by the rules of the Python detection.

        ``permitted``: a feature that the process must request from the kernel counts only once that was granted.
        """
        raise NotImplementedError

    def word(self, body: Body, name: str) -> str:
        """Return the i64 value of a word, and emit what reads it."""
        return f"%{name}"

    def arguments(self, body: Body) -> str:
        """Return the arguments for :attr:`words` where libraries work, as in a constructor."""
        return ""

    def resolver_arguments(self, body: Body) -> str:
        """Return the arguments for :attr:`words` in a function that has :attr:`resolver_parameters`."""
        return self.arguments(body)

    def primitives(self) -> str:
        """Define or declare the functions that ask the processor and the kernel."""
        raise NotImplementedError

    def helpers(self) -> str:
        """Define the functions on top of :meth:`primitives` that reading the words needs that were read so far."""
        return ""


def sysctl(attributes: str) -> str:
    """Define ``i64 @__cpufeat_sysctl(i8*)``: whether a number of the kernel (sysctl(3)) is not 0."""
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
  %is.set = icmp ne i64 %number, 0
  %answer = zext i1 %is.set to i64
  ret i64 %answer
}}
"""
