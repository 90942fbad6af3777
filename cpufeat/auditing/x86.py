"""The code of x86 images, by iced-x86.

A first pass decodes everything and keeps the set of opcodes of each function. Only those with an opcode that matters, or
with bytes that are no instruction, are looked at again (:mod:`cpufeat.auditing.recovery`).
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections import Counter
from itertools import islice
from operator import attrgetter

from iced_x86 import Decoder, FlowControl, Mnemonic, OpKind

from cpufeat.auditing.opcodes_x86 import Meaning, meaning
from cpufeat.auditing.recovery import BRANCH, JUMP, NEXT, STOP, Step, recovered
from cpufeat.auditing.scan import Body, Meter, Scan, Undecoded
from cpufeat.auditing.stretches import between_functions, content_of, divided, in_functions
from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from iced_x86 import Instruction

    from cpufeat.auditing.image import Image
    from cpufeat.auditing.scan import Places, Progress
    from cpufeat.auditing.stretches import Range, Stretch

_FLOWS = {
    FlowControl.UNCONDITIONAL_BRANCH: JUMP,
    FlowControl.CONDITIONAL_BRANCH: BRANCH,
    FlowControl.XBEGIN_XABORT_XEND: BRANCH,
    FlowControl.INDIRECT_BRANCH: STOP,
    FlowControl.RETURN: STOP,
    FlowControl.EXCEPTION: STOP,
}
_DIRECT = (OpKind.NEAR_BRANCH64, OpKind.NEAR_BRANCH32)
_BRANCHES = (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH)
_PADDING = (Mnemonic.NOP, Mnemonic.INT3)
_INVALID = 0
_PADDING_BYTES = b"\x00\x90\xcc"
_AT_ONCE = 1 << 16
"""Instructions that the first pass holds at a time."""
_CALL_OR_JUMP = re.compile(rb"[\xe8\xe9](?=(.{4}))", re.DOTALL)
_EXAMPLES = 3
"""Functions in which a harmless mnemonic is looked for."""
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
        self.bodies: list[Body] = []
        self.undecoded: list[Undecoded] = []
        self.instructions = 0

    def scan(self) -> Scan:
        for stretch in in_functions(self.image):
            if self._matters(stretch):
                self._look_again(stretch, (stretch.function.start,))
        between = [one for one in between_functions(self.image) if not _is_padding(content_of(self.image, *one))]
        loose = [one for one in divided(between, ()) if self._matters(one)]
        ranges = [one for stretch in loose for one in stretch.ranges]
        entries = self._entries(ranges)
        for stretch in divided(ranges, entries):
            self._look_again(stretch, entries.intersection([stretch.function.start]))
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
        for code in found - self.meanings.keys() - {_INVALID}:
            known = meaning(self.image.arch, code)
            if known is None:
                self.dull.add(code)
            else:
                self.meanings[code] = known
        return not found <= self.dull

    def _entries(self, ranges: Sequence[Range]) -> set[int]:
        """Return the places in those ranges that others lead to: the entry, pointers, and what looks like calls and jumps."""
        if not ranges:
            return set()
        starts = [start for start, _ in ranges]
        found = {self.image.entry or 0, *self.image.pointers.values()}
        for section in self.image.sections:
            if section.executable:
                for match in _CALL_OR_JUMP.finditer(section.content):
                    distance = int.from_bytes(match[1], "little", signed=True)
                    found.add(section.address + match.start() + 5 + distance)
        return {one for one in found if (at := bisect_right(starts, one)) and one < ranges[at - 1][1]}

    # --- the second

    def _look_again(self, stretch: Stretch, entries: Collection[int]) -> None:
        """Find where the opcodes that matter are; ``entries``: what is known to be reached."""
        places = _Places(self.meanings)
        consistent = bool(entries) and all([self._sweep(start, end, places) for start, end in stretch.ranges])
        certain = True
        if not consistent:
            places = _Places(self.meanings)
            certain = all([self._recover(start, end, entries, places) for start, end in stretch.ranges])
        if places:
            self.bodies.append(Body(stretch.function, places.uses, places.harmless, places.others, certain))
            self.seen.update(places.harmless)
            self.dull.update(code for code, one in self.meanings.items() if self.seen[one.harmless] >= _EXAMPLES)

    def _sweep(self, start: int, end: int, places: _Places) -> bool:
        """Add what is found from start to end; return whether all of it makes sense as code."""
        starts, targets = set(), []
        for instruction in Decoder(self.bits, content_of(self.image, start, end), ip=start):
            code, address = instruction.code, instruction.ip
            if code == _INVALID:
                return False
            starts.add(address)
            if code not in self.dull:
                places.add(code, address)
            elif instruction.flow_control in _BRANCHES:
                targets.append(instruction.near_branch_target)
        return starts.issuperset(target for target in targets if start <= target < end)

    def _recover(self, start: int, end: int, entries: Collection[int], places: _Places) -> bool:
        """Add what is found in the code among the data; return whether it surely is code."""
        content = content_of(self.image, start, end)
        decoder = Decoder(self.bits, content, ip=start)

        def decode(address: int) -> Iterator[Step]:
            decoder.position, decoder.ip = address - start, address
            return map(_step, decoder)

        found = recovered(start, end, entries, decode, content)
        for step in found.certain:
            places.add(step.code, step.address)
        surely = len(places)
        for step in found.likely:
            places.add(step.code, step.address)
        for first, last in found.data:
            if not _is_padding(content[first - start : last - start]):
                reason = _REACHED_UNKNOWN if first in found.unknown else _NOT_CODE
                self.undecoded.append(Undecoded(first, last - first, reason))
        return len(places) == surely


class _Places:
    """Addresses by what opcodes mean."""

    def __init__(self, meanings: Mapping[int, Meaning]) -> None:
        self.meanings = meanings
        self.uses: Places = {}
        self.harmless: Places = {}
        self.others: Places = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, code: int, address: int) -> None:
        if code not in self.meanings:
            return
        self._length += 1
        features, harmless, other = self.meanings[code]
        for feature in features:
            self.uses.setdefault(feature, array("Q")).append(address)
        if harmless:
            self.harmless.setdefault(harmless, array("Q")).append(address)
        if other:
            self.others.setdefault(other, array("Q")).append(address)


def _step(instruction: Instruction) -> Step:
    direct = instruction.op_count and instruction.op0_kind in _DIRECT
    return Step(
        instruction.ip,
        instruction.next_ip,
        instruction.code,
        _FLOWS.get(instruction.flow_control, NEXT),
        instruction.near_branch_target if direct else None,
        instruction.mnemonic in _PADDING,
    )


def _is_padding(content: bytes) -> bool:
    return not content.strip(_PADDING_BYTES) or all(
        instruction.mnemonic in _PADDING for instruction in Decoder(64, content.strip(b"\0"))
    )


def _start(body: Body) -> int:
    return body.function.start
