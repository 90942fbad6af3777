"""Scan x86 code for required features, with iced-x86.

The first pass decodes everything and collects the opcodes of each region. The second looks again at regions with a
relevant opcode, or with bytes that are no instruction (:mod:`cpufeat.auditing.decoding.code_discovery`).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from functools import cache, cached_property
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from cpufeat.auditing.decoding import opcodes_x86
from cpufeat.auditing.decoding.apx import plain
from cpufeat.auditing.decoding.code_discovery import Decoded, MixedRange, discover
from cpufeat.auditing.decoding.newer_x86 import newer
from cpufeat.auditing.decoding.prefixes_x86 import form
from cpufeat.auditing.decoding.regions import Region, between_functions, in_functions, limited, sure_entries
from cpufeat.auditing.decoding.requirements import NO_INSTRUCTION, Requirement, Uses
from cpufeat.auditing.decoding.scan import Scanner, UnknownCode
from cpufeat.auditing.formats.image import Function
from cpufeat.auditing.lifting.semantics import NEXT
from cpufeat.auditing.lifting.x86 import FLOWS
from cpufeat.support.extras import extra
from cpufeat.support.value import TYPE_CHECKING

with extra("audit"):
    from iced_x86 import Decoder, DecoderError, FlowControl, Formatter, FormatterSyntax, Mnemonic, OpKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from iced_x86 import Instruction

    from cpufeat.auditing.decoding.regions import Range
    from cpufeat.auditing.decoding.scan import Progress, Scan
    from cpufeat.auditing.formats.image import Image

_DIRECT = (OpKind.NEAR_BRANCH64, OpKind.NEAR_BRANCH32)
_BRANCHES = (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH)
_PADDING = (Mnemonic.NOP, Mnemonic.INT3)
_INVALID = 0
_PADDING_BYTES = b"\x00\x90\xcc"
_BATCH = 1 << 16
"""Instructions that the first pass holds in memory at once."""
_CALL_OR_JUMP = re.compile(rb"[\xe8\xe9](?=(.{4}))", re.DOTALL)
"""``call`` and ``jmp`` before the four bytes of their distance. The targets of ``lea`` are data as often as code."""
_WORD = 4
"""Bytes of a displacement that can be an address."""
_MAX_INSTRUCTION = 15
"""Bytes of the longest instruction."""
_REACHED_UNKNOWN = "reached, but no instruction that iced-x86 knows"
_NOT_CODE = "not reached, and not like code"
_opcode = attrgetter("code")


def scan(image: Image, progress: Progress | None = None) -> Scan:
    """Scan the code of an x86 image."""
    return _Scanner(image, progress).scan()


class _Scanner(Scanner):
    """The scan of one image. An opcode is a ``Code`` of iced-x86, or negative for one that APX extends."""

    def __init__(self, image: Image, progress: Progress | None) -> None:
        super().__init__(image, progress)
        self.bits = 64 if image.arch == "x86_64" else 32
        self._reached_unknown: set[int] = set()
        """Addresses that are reached as code, but hold no instruction that iced-x86 knows."""
        self._numbers: dict[Requirement, int] = {}

    def look_up(self, opcode: int) -> Requirement | None:
        return NO_INSTRUCTION if opcode == _INVALID else opcodes_x86.requirement(self.image.arch, opcode)

    def scan(self) -> Scan:
        for region in in_functions(self.image):
            if self._is_relevant(region):
                self._scan_region(region, [region.function.start])
        between = [gap for gap in between_functions(self.image) if not _is_padding(self._content(gap))]
        gaps = [gap for gap in limited(between) if self._is_relevant(Region.unnamed(gap))]
        rest, self.undecoded = self.undecoded, []
        gaps = sorted([*gaps, *((part.address, part.address + part.size) for part in rest)])
        entries = sorted(self._entries(gaps))
        for gap in gaps:
            self._scan_region(Region.unnamed(gap), entries)
        return self.result()

    def _content(self, within: Range) -> bytes:
        start, end = within
        return self.image.bytes_at(start, end - start)

    # --- the first pass

    def _is_relevant(self, region: Region) -> bool:
        """Whether a region has a relevant opcode, or bytes that are no instruction."""
        opcodes: set[int] = set()
        for start, end in region.ranges:
            decoded = map(_opcode, Decoder(self.bits, self._content((start, end)), ip=start))
            while batch := list(islice(decoded, _BATCH)):
                opcodes.update(batch)
                self.instructions += len(batch)
            self.meter.add(end - start)
        return self.any_relevant(opcodes)

    def _entries(self, ranges: Sequence[Range]) -> set[int]:
        """Return the addresses in those ranges that symbols, pointers, and what looks like calls and jumps lead to."""
        if not ranges:
            return set()
        starts = [start for start, _ in ranges]
        boundaries = [self._boundaries(within) for within in ranges]
        addresses = {symbol.address for symbol in self.image.symbols} | self._sure_entries
        entries = {
            address for address in addresses if (at := bisect_right(starts, address)) and address < ranges[at - 1][1]
        }
        for section in self.image.sections:
            for match in _CALL_OR_JUMP.finditer(section.content) if section.executable else ():
                distance = int.from_bytes(match[1], "little", signed=True)
                target = section.address + match.end() + len(match[1]) + distance
                at = bisect_right(starts, target) - 1
                if at >= 0 and target < ranges[at][1] and boundaries[at][target - starts[at]]:
                    entries.add(target)
        return entries

    @cached_property
    def _functions(self) -> set[Function]:
        return {*self.image.functions}

    @cached_property
    def _sure_entries(self) -> set[int]:
        return sure_entries(self.image)

    def _boundaries(self, within: Range) -> bytearray:
        """Return 1 for each byte of a range that begins an instruction, if it is decoded from its beginning."""
        start, end = within
        marks = bytearray(end - start)
        for instruction in Decoder(self.bits, self._content(within), ip=start):
            marks[instruction.ip - start] = 1
        return marks

    # --- the second pass

    def _scan_region(self, region: Region, entries: Sequence[int]) -> None:
        """Add the uses in a region; ``entries``: the addresses that are known to be reached, sorted."""
        uses = Uses()
        is_code = [self._sweep(within, uses) for within in region.ranges]
        start, end, _ = region.function
        reached = entries[bisect_left(entries, start) : bisect_left(entries, end)]
        if not all(is_code) or not reached:
            uses = Uses()
            is_code = [self._discover(within, region.function, reached, uses) for within in region.ranges]
        self.add_uses(region.function, uses, reached, certain=all(is_code))

    def _sweep(self, within: Range, uses: Uses) -> bool:
        """Add the uses in a range, decoded from its beginning; return whether all of it makes sense as code."""
        start, end = within
        starts, targets = set(), []
        for instruction in Decoder(self.bits, self._content(within), ip=start):
            opcode, address = instruction.code, instruction.ip
            if opcode == _INVALID:
                return False
            starts.add(address)
            if opcode in self.requirements:
                uses.add(self.requirements[opcode], address)
            elif instruction.flow_control in _BRANCHES:
                targets.append(instruction.near_branch_target)
        return starts.issuperset(target for target in targets if start <= target < end)

    def _discover(self, within: Range, function: Function, entries: Sequence[int], uses: Uses) -> bool:
        """Add the uses in the code of a range that holds data too; return whether what they are in surely is code."""
        start, _ = within
        content = self._content(within)
        stream = _InstructionStream(self, content, start)
        mixed = MixedRange(start, content, self.image.bases, stream.decode, self.image.bytes_at)
        discovered = discover(mixed, entries)
        reached = {address for address in discovered.unknown if not self._is_cut_off(address)}
        surely = self._surely(mixed, reached, function, entries) if reached else reached
        for address in reached:
            self._add_unknown(address, function, entries, certain=address in surely)
        certain = (found for found in discovered.certain if found.known or found.address in surely)
        self._add_instructions(certain, uses)
        certain_uses = len(uses)
        self._add_instructions(discovered.likely, uses)
        self._reached_unknown |= reached
        for first, last in discovered.data:
            if not _is_padding(content[first - start : last - start]):
                self.add_undecoded(first, last, _REACHED_UNKNOWN if first in self._reached_unknown else _NOT_CODE)
        return len(uses) == certain_uses

    def _is_cut_off(self, address: int) -> bool:
        """Whether an instruction that is known begins at an address: it ends beyond the range in which it was found."""
        return bool(Decoder(self.bits, self.image.bytes_at(address, _MAX_INSTRUCTION)).decode().code)

    def _surely(self, mixed: MixedRange, reached: set[int], function: Function, entries: Sequence[int]) -> set[int]:
        """Return those of the unknown addresses that control flow surely reaches."""
        sure = self._sure_entries.intersection(entries)
        if function in self._functions:
            return reached if sure else set()
        return reached & discover(mixed._replace(has_tables=False), sure).unknown

    def _add_unknown(self, address: int, function: Function, entries: Sequence[int], *, certain: bool) -> None:
        """Add bytes that are no instruction; ``entries``: where functions begin in one without a name."""
        known = form(self.image.bytes_at(address, _MAX_INSTRUCTION), self.bits)
        before = bisect_right(entries, address) - 1
        start = function.start if function.name or before < 0 else max(function.start, entries[before])
        within = Function(start, function.end, function.name)
        self.unknown.append(UnknownCode(address, known.length, within, known.prefix.least, known.prefix.name, certain))

    def extended(self, opcode: int, features: frozenset[str]) -> int:
        """Return the opcode that stands for one that is extended by those features of APX."""
        plain_opcode = self.requirement(opcode) or Requirement()
        return self.opcode_of(Requirement(plain_opcode.features | features, other=plain_opcode.other))

    def opcode_of(self, requirement: Requirement) -> int:
        """Return the opcode that stands for all that iced-x86 does not know and that have a requirement."""
        opcode = self._numbers.setdefault(requirement, -1 - len(self._numbers))
        self.requirements[opcode] = requirement
        return opcode

    def _add_instructions(self, instructions: Iterable[Decoded], uses: Uses) -> None:
        for instruction in instructions:
            requirement = self.requirement(instruction.code)
            if requirement is not None:
                uses.add(requirement, instruction.address)


class _InstructionStream:
    """The instructions of a range, including those of APX. Each is decoded once."""

    def __init__(self, scanner: _Scanner, content: bytes, start: int) -> None:
        self._scanner, self._content, self._start = scanner, content, start
        self._decoder = Decoder(scanner.bits, content, ip=start)
        self._known: dict[int, Decoded] = {}

    def decode(self, address: int) -> Iterator[Decoded]:
        """Yield the instructions from an address to the end of the range."""
        while address in self._known:
            instruction = self._known[address]
            yield instruction
            address = instruction.following
        for instruction in self._decode_new(address):
            self._known[instruction.address] = instruction
            yield instruction

    def _decode_new(self, address: int) -> Iterator[Decoded]:
        while True:
            self._decoder.position, self._decoder.ip = address - self._start, address
            for instruction in self._decoder:
                decoded = _decoded(instruction)
                if not decoded.code:
                    break
                yield decoded
            else:
                return
            decoded = self._decode_apx(decoded.address) or self._decode_newer(decoded)
            yield decoded
            address = decoded.following

    def _decode_apx(self, address: int) -> Decoded | None:
        """Return the instruction of APX at an address, None if there is none."""
        offset = address - self._start
        code = self._content[offset : offset + _MAX_INSTRUCTION]
        without_apx = plain(code) if self._scanner.bits == 64 else None
        instruction = Decoder(64, without_apx.code, ip=address).decode() if without_apx else None
        if not without_apx or not instruction or not instruction.code:
            return None
        decoded = _decoded(instruction)
        return decoded._replace(
            following=decoded.following + without_apx.longer,
            code=self._scanner.extended(decoded.code, without_apx.features),
            refers=None if decoded.refers is None else decoded.refers + without_apx.longer,
        )

    def _decode_newer(self, decoded: Decoded) -> Decoded:
        """Return an instruction of the table, or one that is not known if its prefix tells the length."""
        offset = decoded.address - self._start
        code = self._content[offset : offset + _MAX_INSTRUCTION]
        known = newer(code, self._scanner.bits)
        if known:
            length, requirement = known.length, known.requirement
        else:
            length, prefix, *_ = form(code, self._scanner.bits)
            requirement = Requirement(frozenset({prefix.least} - {""}))
        if not length:
            return decoded
        following, opcode = decoded.address + length, self._scanner.opcode_of(requirement)
        return decoded._replace(following=following, code=opcode, flow=NEXT, known=bool(known))


def instruction_text(image: Image, address: int) -> str:
    """Return the instruction at an address as assembly, in Intel's syntax; only its mnemonic if it is new."""
    bits = 64 if image.arch == "x86_64" else 32
    code = image.bytes_at(address, _MAX_INSTRUCTION)
    instruction = Decoder(bits, code, ip=address).decode()
    if instruction.code:
        return _formatter().format(instruction)
    without_apx = plain(code) if bits == 64 else None
    instruction = Decoder(64, without_apx.code).decode() if without_apx else instruction
    if instruction.code:
        return f"{_formatter().format_mnemonic(instruction)} (APX)"
    known = newer(code, bits)
    return known.mnemonic if known else f"(unknown) {code[: form(code, bits).length].hex(' ')}"


@cache
def _formatter() -> Formatter:
    formatter = Formatter(FormatterSyntax.INTEL)
    formatter.hex_prefix, formatter.hex_suffix = "0x", ""
    formatter.space_after_operand_separator = True
    return formatter


class _OpcodeFacts(NamedTuple):
    """The facts that all instructions of an opcode share."""

    flow: int
    is_direct: bool
    """Whether it is a branch or call to an address in the instruction itself."""
    is_padding: bool


_opcode_facts: dict[int, _OpcodeFacts] = {}


def _facts(instruction: Instruction) -> _OpcodeFacts:
    is_direct = bool(instruction.op_count) and instruction.op0_kind in _DIRECT
    facts = _OpcodeFacts(FLOWS.get(instruction.flow_control, NEXT), is_direct, instruction.mnemonic in _PADDING)
    _opcode_facts[instruction.code] = facts
    return facts


def _decoded(instruction: Instruction) -> Decoded:
    opcode = instruction.code
    flow, is_direct, is_padding = _opcode_facts.get(opcode) or _facts(instruction)
    target = instruction.near_branch_target if is_direct else None
    refers = instruction.memory_displacement if instruction.memory_displ_size >= _WORD else None
    return Decoded(instruction.ip, instruction.next_ip, opcode, flow, target, refers, is_padding)


def _is_padding(content: bytes) -> bool:
    """Whether all bytes are zeros, traps or NOPs, of which the last may be cut off."""
    if not content.strip(_PADDING_BYTES):
        return True
    decoder = Decoder(64, content.strip(b"\0"))
    is_all_padding = all(instruction.mnemonic in _PADDING for instruction in decoder)
    return is_all_padding or decoder.last_error == DecoderError.NO_MORE_BYTES
