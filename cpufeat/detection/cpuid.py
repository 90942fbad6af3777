"""Read CPUID: which leaves exist, whether a bit is set, and which states the operating system enabled.

Sources: Intel SDM volume 2A "CPUID" and volume 1 chapter 13 (XSAVE-managed state); AMD APM volume 3 appendix E.
"""

from __future__ import annotations

from cpufeat.support.conditions import Term, written
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.instructions import Registers
    from cpufeat.detection.machine import Leaves, Machine
    from cpufeat.support.conditions import Condition

REGISTERS = {"EAX": 0, "EBX": 1, "ECX": 2, "EDX": 3}
OSXSAVE = "1.0:ECX[27]"
_HYPERVISOR = "1.0:ECX[31]"
AVX512_STATE = 0b111 << 5
"""The bits of XCR0 that AVX-512 adds to those of AVX."""


class Cpuid:
    """CPUID of one processor, each leaf read once.

    A leaf above the highest that the processor names is not read, nor a hypervisor's without the bit that announces
    one: Intel's processors answer the highest basic leaf there.
    """

    def __init__(self, machine: Machine, cpu: int | None = None) -> None:
        """Read from processor ``cpu``, or from the one at hand."""
        self._machine, self._cpu = machine, cpu
        self._read: dict[tuple[int, int], Registers | None] = {}
        self._words: dict[str, int] = {}

    @property
    def available(self) -> bool:
        """Whether CPUID can be read at all."""
        return any(self.registers(first) is not None for first in FIRST_LEAVES)

    def registers(self, leaf: int, subleaf: int = 0) -> Registers | None:
        """Return a leaf's four registers, None where it does not exist or cannot be read."""
        if (leaf, subleaf) not in self._read:
            exists = self._exists(leaf, subleaf)
            self._read[leaf, subleaf] = self._machine.cpuid(leaf, subleaf, self._cpu) if exists else None
        return self._read[leaf, subleaf]

    def _exists(self, leaf: int, subleaf: int) -> bool:
        first = leaf & 0xFFFF0000
        if first == _HYPERVISOR_LEAVES and not self.holds(_HYPERVISOR):
            return False
        if leaf in FIRST_LEAVES:
            return True
        bounds = self.registers(first)
        if bounds is None or not first <= leaf <= max(bounds[0], first):
            return False
        if subleaf and leaf in SUBLEAVES_IN_EAX:
            return subleaf <= (self.registers(leaf) or (0,))[0]
        return True

    def value(self, field: str) -> int:
        """Return a field written ``LEAF.SUBLEAF:REGISTER[BIT]`` or ``...[LOW-HIGH]``; 0 where it cannot be read."""
        return self._value(Term(field))

    def _value(self, term: Term) -> int:
        return self.word(term.word) >> term.low & (1 << term.width) - 1

    def word(self, name: str) -> int:
        """Return a whole register, written ``LEAF.SUBLEAF:REGISTER``; 0 where it cannot be read."""
        word = self._words.get(name)
        if word is None:
            word = self._words[name] = self._read_word(name)
        return word

    def _read_word(self, word: str) -> int:
        leaves, _, register = word.partition(":")
        leaf, _, subleaf = leaves.partition(".")
        registers = self.registers(int(leaf, 16), int(subleaf, 16))
        return registers[REGISTERS[register]] if registers else 0

    def holds(self, field: str) -> bool:
        """Whether a bit, written as for :meth:`value`, is set."""
        return self.value(field) != 0

    def satisfied(self, condition: Condition) -> str:
        """Return the first alternative of a condition that holds, as the table writes it; empty if there is none."""
        for terms in condition.alternatives:
            for term in terms:
                if self._value(term) < term.least:
                    break
            else:
                return written(terms)
        return ""

    def without(self, cleared: dict[str, int]) -> Cpuid:
        """Return what CPUID would be without some bits: a mask by word (``7.0:EBX``)."""
        remaining = Cpuid(self._machine, self._cpu)
        remaining._read = self._read
        remaining._words = {word: self.word(word) & ~mask for word, mask in cleared.items()}
        return remaining

    def text(self, *leaves: int) -> str:
        """Return the text that whole leaves hold, EAX to EDX in turn (the brand string)."""
        read = [self.registers(leaf) for leaf in leaves]
        data = b"".join(register.to_bytes(4, "little") for registers in read if registers for register in registers)
        return " ".join(data.split(b"\0")[0].decode("ascii", "replace").split())

    def vendor(self, leaf: int = 0) -> str:
        """Return the vendor string of leaf 0 (EBX, EDX, ECX) or of a hypervisor (0x40000000: EBX, ECX, EDX)."""
        _, ebx, ecx, edx = self.registers(leaf) or (0, 0, 0, 0)
        order = (ebx, edx, ecx) if leaf == 0 else (ebx, ecx, edx)
        return b"".join(register.to_bytes(4, "little") for register in order).decode("ascii", "replace").strip("\0 ")

    def signature(self) -> tuple[int, int, int]:
        """Return family, model and stepping as vendors count them (SDM: DisplayFamily, DisplayModel)."""
        family, model = self.value("1.0:EAX[8-11]"), self.value("1.0:EAX[4-7]")
        extended = self.value("1.0:EAX[16-19]") << 4
        uses_extended_model = family in (6, 15)
        if family == 15:
            family += self.value("1.0:EAX[20-27]")
        return family, model + extended if uses_extended_model else model, self.value("1.0:EAX[0-3]")

    def xcr0(self) -> tuple[int, str]:
        """Return the states that the operating system enabled, a bit each, and where that was read."""
        if not self.holds(OSXSAVE):
            return 0, "CPUID 1:ECX[27] (OSXSAVE) is 0"
        enabled = self._machine.xgetbv(0)
        if enabled and self._machine.sysctl("hw.optional.avx512f") == 1:  # macOS enables it when it is first used
            return enabled | AVX512_STATE, f"XCR0 is {enabled:#x} before AVX-512 is used, hw.optional.avx512f is 1"
        if enabled is not None:
            return enabled, f"XCR0 is {enabled:#x}"
        from cpufeat.detection import xsave_area

        enabled = xsave_area.enabled(lambda subleaf: self.registers(0xD, subleaf))
        return enabled, f"XCR0 was not recorded; by the sizes of CPUID leaf D it has {enabled:#x}"


_HYPERVISOR_LEAVES = 0x40000000
FIRST_LEAVES = (0, _HYPERVISOR_LEAVES, 0x80000000)
SUBLEAVES_IN_EAX = (0x7, 0x14, 0x17, 0x18, 0x1D, 0x20, 0x24)
_SUBLEAVES = {0x4: 8, 0x7: 4, 0xB: 4, 0xD: 63, 0xF: 2, 0x10: 4, 0x12: 4, 0x14: 2, 0x1D: 2, 0x1E: 2, 0x1F: 6, 0x24: 2}
_SERIAL_NUMBER = 0x3


def all_leaves(machine: Machine, cpu: int | None = None) -> Leaves:
    """Return every leaf that a processor has, for a recording; the processor's serial number (leaf 3) is left out."""
    cpuid = Cpuid(machine, cpu)
    leaves: Leaves = {}
    for first in FIRST_LEAVES:
        last = (cpuid.registers(first) or (0,))[0]
        for leaf in range(first, min(last, first + 0xFF) + 1):
            for subleaf in range(_SUBLEAVES.get(leaf, 1)):
                registers = cpuid.registers(leaf, subleaf)
                if registers is not None and leaf != _SERIAL_NUMBER:
                    leaves[leaf, subleaf] = registers
    return leaves
