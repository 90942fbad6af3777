"""Define how a recording stores answers: each class looks them up, collects them, and converts them to JSON.

Each class is for one shape of answer. ``find`` looks up the answer to a question's arguments; ``collect`` makes the
stored value from answers by arguments; ``write`` and ``read`` convert it to and from what :mod:`json` takes, where
registers and masks are hexadecimal. ``read`` raises ValueError, TypeError, AttributeError, KeyError or OverflowError
for anything else.
"""

from __future__ import annotations

from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from cpufeat.detection.instructions import Registers
    from cpufeat.detection.machine import Leaves

    Collected = Mapping[tuple[Any, ...], Any]
    """The answers of a machine by all arguments of the question, defaults included."""


def text(value: Any) -> str:
    """Return the value if it is text. Raises TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def variable(value: Any) -> int | str:
    """Return the value if it is a number or text. Raises TypeError."""
    return value if isinstance(value, int) else text(value)


def mask(value: Any) -> int:
    """Return 64 bits that JSON holds in hexadecimal. Raises ValueError and TypeError."""
    return int(value, 16) & 0xFFFFFFFFFFFFFFFF


def numbers(value: Any) -> tuple[int, ...]:
    """Return the numbers of a list. Raises ValueError, TypeError and OverflowError."""
    return tuple(int(number) for number in value)


def _hexadecimal(value: int) -> str:
    return f"{value:x}"


class Single(Value):
    """The answer to a question without arguments; None where it was not asked or not answered."""

    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = lambda stored: stored

    def find(self, stored: Any) -> Any:
        """Return the stored answer."""
        return stored

    def collect(self, answers: Collected) -> Any:
        """Return the one answer, None if the question was not asked."""
        return answers.get(())


class ByArgument(Value):
    """A dictionary from the question's one argument to the answer."""

    read_argument: Callable[[str], Any]
    read_answer: Callable[[Any], Any]
    write_answer: Callable[[Any], Any] = lambda answer: answer

    def find(self, stored: Mapping[Any, Any], argument: Any) -> Any:
        """Return the answer."""
        return stored.get(argument)

    def collect(self, answers: Collected) -> dict[Any, Any]:
        """Return all answers."""
        return {argument: answer for (argument,), answer in answers.items()}

    def write(self, stored: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the answers by the text of the argument."""
        return {str(argument): self.write_answer(answer) for argument, answer in stored.items()}

    def read(self, value: Any) -> dict[Any, Any]:
        """Return the answers that :meth:`write` wrote."""
        return {self.read_argument(argument): self.read_answer(answer) for argument, answer in value.items()}


class ExtendedControlRegister(Value):
    """The number in XCR0, of ``xgetbv``."""

    def find(self, stored: int | None, index: int = 0) -> int | None:
        """Return XCR0; no other register is recorded."""
        return stored if index == 0 else None

    def collect(self, answers: Collected) -> int | None:
        """Return XCR0."""
        return answers.get((0,))

    def write(self, stored: int | None) -> str | None:
        """Return XCR0 in hexadecimal."""
        return None if stored is None else _hexadecimal(stored)

    def read(self, value: Any) -> int:
        """Return the number."""
        return int(value, 16)


class CpuidLeaves(Value):
    """The registers of ``cpuid`` by processor and (leaf, subleaf); one processor may stand for all of its kind."""

    def find(
        self, stored: Mapping[int, Leaves], leaf: int, subleaf: int = 0, cpu: int | None = None
    ) -> Registers | None:
        """Return the registers, of the first recorded processor where none is named."""
        return stored.get(min(stored, default=0) if cpu is None else cpu, {}).get((leaf, subleaf))

    def collect(self, answers: Collected) -> dict[int, Leaves]:
        """Return the registers; what was asked of the processor at hand is recorded as processor 0."""
        stored: dict[int, Leaves] = {}
        for (leaf, subleaf, cpu), registers in answers.items():
            stored.setdefault(cpu or 0, {})[leaf, subleaf] = registers
        return stored

    def write(self, stored: Mapping[int, Leaves]) -> dict[str, dict[str, str]]:
        """Return ``{"0": {"7.0": "00000002 219c07a9 00000000 00000000"}}``."""
        return {
            str(cpu): {
                f"{leaf:x}.{subleaf:x}": " ".join(f"{register:08x}" for register in registers)
                for (leaf, subleaf), registers in sorted(leaves.items())
            }
            for cpu, leaves in stored.items()
        }

    def read(self, value: Any) -> dict[int, Leaves]:
        """Return the answers that :meth:`write` wrote."""
        return {
            int(cpu): {_leaf(key): _registers(registers) for key, registers in leaves.items()}
            for cpu, leaves in value.items()
        }


def _leaf(key: str) -> tuple[int, int]:
    leaf, subleaf = key.split(".")
    return int(leaf, 16), int(subleaf, 16)


def _registers(words: str) -> Registers:
    eax, ebx, ecx, edx = (int(word, 16) & 0xFFFFFFFF for word in words.split())
    return eax, ebx, ecx, edx


class ProbedKeys(Value):
    """The answers of ``hwprobe``: a number for each key."""

    def find(self, stored: Mapping[int, int], keys: tuple[int, ...]) -> dict[int, int]:
        """Return those of the keys that are recorded."""
        return {key: stored[key] for key in keys if key in stored}

    def collect(self, answers: Collected) -> dict[int, int]:
        """Return all answers together."""
        return {key: value for answer in answers.values() for key, value in answer.items()}

    def write(self, stored: Mapping[int, int]) -> dict[str, str]:
        """Return ``{"3": "1"}``."""
        return {str(key): _hexadecimal(value) for key, value in stored.items()}

    def read(self, value: Any) -> dict[int, int]:
        """Return the answers that :meth:`write` wrote."""
        return {int(key): mask(number) for key, number in value.items()}


class PresentNumbers(Value):
    """The numbers to which ``processor_feature`` answers yes; None where it was not asked."""

    def find(self, stored: tuple[int, ...] | None, number: int) -> bool | None:
        """Return whether the number is one of them."""
        return None if stored is None else number in stored

    def collect(self, answers: Collected) -> tuple[int, ...] | None:
        """Return the numbers."""
        return tuple(number for (number,), is_present in answers.items() if is_present) or None

    def write(self, stored: tuple[int, ...] | None) -> list[int]:
        """Return a list."""
        return list(stored or ())

    def read(self, value: Any) -> tuple[int, ...]:
        """Return the answers that :meth:`write` wrote."""
        return numbers(value)


class RegistryValues(Value):
    """Values of the ``registry``, by key and name with a backslash between."""

    def find(self, stored: Mapping[str, int | str], key: str, name: str) -> int | str | None:
        """Return the value."""
        return stored.get(f"{key}\\{name}")

    def collect(self, answers: Collected) -> dict[str, int | str]:
        """Return all values."""
        return {f"{key}\\{name}": value for (key, name), value in answers.items()}

    def write(self, stored: Mapping[str, int | str]) -> dict[str, int | str]:
        """Return the values unchanged."""
        return dict(stored)

    def read(self, value: Any) -> dict[str, int | str]:
        """Return the answers that :meth:`write` wrote."""
        return {text(name): variable(number) for name, number in value.items()}


FILES = ByArgument(
    text,
    lambda answer: text(answer).encode("utf-8", "surrogateescape"),
    lambda answer: answer.decode("utf-8", "surrogateescape"),
)
MASKS = ByArgument(int, mask, _hexadecimal)
TEXTS = ByArgument(int, text)
VARIABLES = ByArgument(text, variable)
NUMBERS = Single(numbers, lambda stored: list(stored or ()))
DICTIONARY = Single(dict)
