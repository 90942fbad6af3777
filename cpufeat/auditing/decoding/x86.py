"""The code of x86 images, by iced-x86.

A first pass decodes everything and keeps the set of opcodes of each function. Only those with an opcode that matters,
or with bytes that are no instruction, are looked at again (:mod:`cpufeat.auditing.decoding.code_discovery`).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from functools import cache
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from iced_x86 import Decoder, DecoderError, FlowControl, Formatter, FormatterSyntax, Mnemonic, OpKind

from cpufeat.auditing.decoding.apx import plain
from cpufeat.auditing.decoding.code_discovery import Decoded, Mixed, recovered
from cpufeat.auditing.decoding.opcodes import Meaning, Places
from cpufeat.auditing.decoding.opcodes_x86 import meaning
from cpufeat.auditing.decoding.regions import Stretch, between_functions, content_of, in_functions, limited, place
from cpufeat.auditing.decoding.scan import EXAMPLES, Body, Meter, Scan, Undecoded
from cpufeat.auditing.formats.image import Function
from cpufeat.auditing.lifting.semantics import NEXT
from cpufeat.auditing.lifting.x86 import FLOWS
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from iced_x86 import Instruction

    from cpufeat.auditing.decoding.regions import Range
    from cpufeat.auditing.decoding.scan import Progress
    from cpufeat.auditing.formats.image import Image

_DIRECT = (OpKind.NEAR_BRANCH64, OpKind.NEAR_BRANCH32)
_BRANCHES = (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH)
_PADDING = (Mnemonic.NOP, Mnemonic.INT3)
_INVALID = 0
_PADDING_BYTES = b"\x00\x90\xcc"
_AT_ONCE = 1 << 16
"""Instructions that the first pass holds at a time."""
_LEADS = re.compile(rb"[\xe8\xe9](?=(.{4}))", re.DOTALL)
"""``call`` and ``jmp`` before their four bytes of distance. What ``lea`` leads to is data as often as code."""
_WORD = 4
"""Bytes of a displacement that can be an address."""
_LONGEST = 15
"""Bytes of an instruction."""
_REACHED_UNKNOWN = "reached, but no instruction that iced-x86 knows"
_NOT_CODE = "not reached, and not like code"
_code = attrgetter("code")


def scan(image: Image, progress: Progress | None = None) -> Scan:
    """Decode the code of an x86 image."""
    return _Scanner(image, Meter(image, progress)).scan()


class _Scanner:
    """The scan of one image."""

    def __init__(self, image: Image, meter: Meter) -> None:
        self.image, self.meter = image, meter
        self.bits = 64 if image.arch == "x86_64" else 32
        self.dull: set[int] = set()
        """Opcodes that need no second look."""
        self.meanings: dict[int, Meaning] = {}
        """Those that do, apart from what is no instruction."""
        self.seen: Counter[str] = Counter()
        """In how many functions harmless mnemonics were found: most functions may begin with ENDBR64."""
        self._extended: dict[tuple[int, frozenset[str]], int] = {}
        self.bodies: list[Body] = []
        self.unknown: set[int] = set()
        """Where code was reached that is no instruction."""
        self.undecoded: list[Undecoded] = []
        self.instructions = 0

    def scan(self) -> Scan:
        for stretch in in_functions(self.image):
            if self._matters(stretch):
                self._look_again(stretch, [stretch.function.start])
        between = [one for one in between_functions(self.image) if not _is_padding(content_of(self.image, *one))]
        loose = [one for one in limited(between) if self._matters(Stretch(Function(*one, ""), [one]))]
        left, self.undecoded = self.undecoded, []
        loose = sorted([*loose, *((one.address, one.address + one.size) for one in left)])
        entries = sorted(self._entries(loose))
        for one in loose:
            self._look_again(Stretch(Function(*one, ""), [one]), entries)
        self.meter.finish()
        return Scan(tuple(sorted(self.bodies, key=_start)), tuple(sorted(self.undecoded)), self.instructions)

    # --- the first pass

    def _matters(self, stretch: Stretch) -> bool:
        """Whether a stretch has an opcode that matters, or none at all."""
        found: set[int] = set()
        for start, end in stretch.ranges:
            codes = map(_code, Decoder(self.bits, content_of(self.image, start, end), ip=start))
            while part := list(islice(codes, _AT_ONCE)):
                found.update(part)
                self.instructions += len(part)
            self.meter.add(end - start)
        found -= self.dull
        for code in found - {_INVALID}:
            self._meaning(code)
        return not found <= self.dull

    def _meaning(self, code: int) -> Meaning | None:
        """Return what an opcode means; None if nothing, which is then known."""
        if code not in self.meanings and code not in self.dull:
            known = meaning(self.image.arch, code)
            if known is None:
                self.dull.add(code)
            else:
                self.meanings[code] = known
        return self.meanings.get(code)

    def _entries(self, ranges: Sequence[Range]) -> set[int]:
        """Return where in those ranges others lead: symbols, pointers, and what looks like calls and jumps."""
        if not ranges:
            return set()
        starts = [start for start, _ in ranges]
        marks = [self._boundaries(start, end) for start, end in ranges]
        found = {symbol.address for symbol in self.image.symbols} | {self.image.entry or 0}
        found.update(self.image.pointers.values())
        entries = {one for one in found if (at := bisect_right(starts, one)) and one < ranges[at - 1][1]}
        for section in self.image.sections:
            for match in _LEADS.finditer(section.content) if section.executable else ():
                distance = int.from_bytes(match[1], "little", signed=True)
                target = section.address + match.end() + len(match[1]) + distance
                at = bisect_right(starts, target) - 1
                if at >= 0 and target < ranges[at][1] and marks[at][target - starts[at]]:
                    entries.add(target)
        return entries

    def _boundaries(self, start: int, end: int) -> bytearray:
        """Return 1 for each byte of a range that begins an instruction, where it is decoded from its beginning."""
        marks = bytearray(end - start)
        for instruction in Decoder(self.bits, content_of(self.image, start, end), ip=start):
            marks[instruction.ip - start] = 1
        return marks

    # --- the second

    def _look_again(self, stretch: Stretch, entries: Sequence[int]) -> None:
        """Find where the opcodes that matter are; ``entries``: what is known to be reached, by address."""
        places = Places()
        swept = [self._sweep(*one, places) for one in stretch.ranges]
        start, end, _ = stretch.function
        reached = entries[bisect_left(entries, start) : bisect_left(entries, end)]
        if not all(swept) or not reached:
            places = Places()
            swept = [self._recover(*one, reached, places) for one in stretch.ranges]
        for function, found in places.by_function(stretch.function, reached):
            self.bodies.append(Body(function, found.uses, found.harmless, found.others, all(swept)))
        self.seen.update(list(places.harmless))
        self.dull.update(code for code, one in self.meanings.items() if self.seen[one.harmless] >= EXAMPLES)

    def _sweep(self, start: int, end: int, places: Places) -> bool:
        """Add what is found from start to end; return whether all of it makes sense as code."""
        starts, targets = set(), []
        for instruction in Decoder(self.bits, content_of(self.image, start, end), ip=start):
            code, address = instruction.code, instruction.ip
            if code == _INVALID:
                return False
            starts.add(address)
            if code in self.meanings:
                places.add(self.meanings[code], address)
            elif instruction.flow_control in _BRANCHES:
                targets.append(instruction.near_branch_target)
        return starts.issuperset(target for target in targets if start <= target < end)

    def _recover(self, start: int, end: int, entries: Sequence[int], places: Places) -> bool:
        """Add what is found in the code among the data; return whether it surely is code."""
        content = content_of(self.image, start, end)
        steps = _Steps(self, content, start)
        found = recovered(Mixed(start, content, self.image.bases, steps.decode, self.image.bytes_at), entries)
        self._add(found.certain, places)
        surely = len(places)
        self._add(found.likely, places)
        self.unknown |= found.unknown
        for first, last in found.data:
            if not _is_padding(content[first - start : last - start]):
                reason = _REACHED_UNKNOWN if first in self.unknown else _NOT_CODE
                self.undecoded.append(Undecoded(first, last - first, place(self.image, first), reason))
        return len(places) == surely

    def extended(self, code: int, features: frozenset[str]) -> int:
        """Return what stands for an opcode with features of APX; it is one that means something."""
        known = self._extended.setdefault((code, features), -1 - len(self._extended))
        base = self.meanings.get(code) or meaning(self.image.arch, code) or Meaning()
        self.meanings[known] = Meaning(base.features | features, other=base.other)
        return known

    def _add(self, steps: Iterable[Decoded], places: Places) -> None:
        for step in steps:
            known = self._meaning(step.code)
            if known is not None:
                places.add(known, step.address)


class _Steps:
    """The instructions of a stretch, also those of APX."""

    def __init__(self, scanner: _Scanner, content: bytes, start: int) -> None:
        self.scanner, self.content, self.start = scanner, content, start
        self.decoder = Decoder(scanner.bits, content, ip=start)
        self.known: dict[int, Decoded] = {}

    def decode(self, address: int) -> Iterator[Decoded]:
        """Yield the steps from an address on."""
        while True:
            step = self.known.get(address)
            if step is None:
                break
            yield step
            address = step.following
        for step in self._decoded(address):
            self.known[step.address] = step
            yield step

    def _decoded(self, address: int) -> Iterator[Decoded]:
        while True:
            self.decoder.position, self.decoder.ip = address - self.start, address
            for instruction in self.decoder:
                step = _step(instruction)
                if not step.code:
                    break
                yield step
            else:
                return
            extended = self._of_apx(step.address)
            yield extended or step
            address = (extended or step).following

    def _of_apx(self, address: int) -> Decoded | None:
        offset = address - self.start
        found = plain(self.content[offset : offset + _LONGEST]) if self.scanner.bits == 64 else None
        instruction = Decoder(64, found.code, ip=address).decode() if found else None
        if not found or not instruction or not instruction.code:
            return None
        step = _step(instruction)
        return step._replace(
            following=step.following + found.longer,
            code=self.scanner.extended(step.code, found.features),
            refers=None if step.refers is None else step.refers + found.longer,
        )


def instruction_text(image: Image, address: int) -> str:
    """Return the instruction at an address as assembly, in Intel's syntax."""
    bits = 64 if image.arch == "x86_64" else 32
    code = image.bytes_at(address, _LONGEST)
    instruction = Decoder(bits, code, ip=address).decode()
    found = plain(code) if not instruction.code and bits == 64 else None
    if found:
        return f"{_formatter().format_mnemonic(Decoder(64, found.code).decode())} (APX)"
    return _formatter().format(instruction)


@cache
def _formatter() -> Formatter:
    formatter = Formatter(FormatterSyntax.INTEL)
    formatter.hex_prefix, formatter.hex_suffix = "0x", ""
    formatter.space_after_operand_separator = True
    return formatter


class _Shape(NamedTuple):
    """What all instructions of an opcode have in common."""

    flow: int
    direct: bool
    """Whether it says where it leads."""
    padding: bool


_shapes: dict[int, _Shape] = {}


def _shape(instruction: Instruction) -> _Shape:
    direct = bool(instruction.op_count) and instruction.op0_kind in _DIRECT
    shape = _Shape(FLOWS.get(instruction.flow_control, NEXT), direct, instruction.mnemonic in _PADDING)
    _shapes[instruction.code] = shape
    return shape


def _step(instruction: Instruction) -> Decoded:
    code = instruction.code
    flow, direct, padding = _shapes.get(code) or _shape(instruction)
    target = instruction.near_branch_target if direct else None
    refers = instruction.memory_displacement if instruction.memory_displ_size >= _WORD else None
    return Decoded(instruction.ip, instruction.next_ip, code, flow, target, refers, padding)


def _is_padding(content: bytes) -> bool:
    """Whether all bytes are NOPs, of which the last may be cut off, or traps or zeros."""
    if not content.strip(_PADDING_BYTES):
        return True
    decoder = Decoder(64, content.strip(b"\0"))
    wrong = next((one for one in decoder if one.mnemonic not in _PADDING), None)
    return wrong is None or decoder.last_error == DecoderError.NO_MORE_BYTES


def _start(body: Body) -> int:
    return body.function.start
