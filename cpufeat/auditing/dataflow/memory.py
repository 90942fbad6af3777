"""Load and store facts: in stack slots, in objects of data, and through pointers to them."""

from __future__ import annotations

from cpufeat.auditing.dataflow.facts import UNSIZED
from cpufeat.auditing.dataflow.lattice import (
    ALL_BITS,
    FACT,
    FACT_POINTER,
    NO_LABELS,
    ONLY_FACT,
    SUM,
    ZERO,
    Argument,
    ExternalWord,
    FeatureBits,
    StackSlot,
    add_offset,
    assign,
    is_fact,
)
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cpufeat.auditing.dataflow.frame import Frame
    from cpufeat.auditing.dataflow.lattice import Label, Labels, State
    from cpufeat.auditing.lifting.semantics import Memory, Step

_FILLED_STEP = 4
"""Bytes between the stack slots that are taken to be filled: answers are stored in words of 32 bits."""


class MemoryModel:
    """The memory that one function sees."""

    def __init__(self, frame: Frame, own_stores: set[int]) -> None:
        """Record effects on memory in the effects of a frame, and in ``own_stores`` the places of its variables."""
        self._own_stores = own_stores
        self._program, self._facts, self._image = frame.program, frame.facts, frame.program.image
        self._convention, self._effects = frame.convention, frame.effects
        self._resolving, self._wants_words, self._asks = frame.resolving, frame.wants_words, frame.asks

    def _pointers(self, memory: Memory, state: State) -> Iterator[Label]:
        """Yield the addresses and stack slots that an operand may be at, and other labels of the pointer to it."""
        if not memory.base:
            yield memory.displacement
        for label in state.get(memory.base, NO_LABELS):
            yield add_offset(label, memory.displacement)

    def is_on_stack(self, memory: Memory, state: State) -> bool:
        """Tell whether an operand may be on the stack."""
        return any(isinstance(pointer, StackSlot) for pointer in self._pointers(memory, state))

    def load(self, memory: Memory, state: State) -> Labels:
        """Return the labels of what an operand may hold."""
        labels: set[Label] = set()
        for pointer in self._pointers(memory, state):
            if isinstance(pointer, StackSlot):
                labels |= state.get(pointer.place, NO_LABELS) if not memory.scaled else NO_LABELS
            elif isinstance(pointer, int):
                labels |= self._load_from(pointer, memory, state)
            elif pointer is FACT_POINTER:
                labels.add(FACT)
            elif isinstance(pointer, Argument):
                labels.add(Argument(pointer.register, dereferenced=True))
        return frozenset(labels)

    def _load_from(self, address: int, memory: Memory, state: State) -> set[Label]:
        """Return the labels of what is at an address, or anywhere in the object there if an index is added."""
        low, size, indexed_by_fact = address, memory.size, False
        if memory.scaled:
            low, high = self._facts.extent(address)
            size, indexed_by_fact = high - low, FACT in state.get(memory.scaled, NO_LABELS)
        if indexed_by_fact:
            self._effects.selected.add(frozenset([address]))
        holds_fact = self._facts.in_memory(low, size, resolving=self._resolving)
        labels: set[Label] = {FACT} if holds_fact or indexed_by_fact else set()
        if holds_fact and low in self._own_stores:
            labels.add(FeatureBits(ALL_BITS))  # where the function has not stored it yet, it is zero on any CPU
        if holds_fact:
            self._effects.sources.add(self._program.symbols.describe(low))
        if self._wants_words and self._facts.in_other_file(address, resolving=True):
            labels.add(ExternalWord(address))
        pointed = self._image.pointers.get(address)
        if pointed is not None and self._facts.in_other_file(pointed, resolving=self._resolving):
            self._effects.sources.add(self._program.symbols.describe(pointed))
            labels.add(FACT_POINTER)
        elif pointed is not None:
            labels.add(pointed)
        return labels

    def store(self, memory: Memory, state: State, labels: Labels, block: int) -> None:
        """Store a value in an operand."""
        pointers, fact = list(self._pointers(memory, state)), is_fact(labels)
        for pointer in pointers:
            if isinstance(pointer, StackSlot):
                assign(state, pointer.place, labels - {ZERO})
                self._effects.fills |= fact and pointer.offset >= self._convention.word
            elif isinstance(pointer, int):
                low, high = pointer, pointer + max(memory.size, 1)
                if memory.scaled:
                    low, high = self._facts.extent(pointer)
                if self._is_writable(low):
                    self._store_in(range(low, high), labels, block)
        if fact and not any(isinstance(pointer, int | StackSlot) for pointer in pointers):
            self._effects.fills = True

    def _is_writable(self, address: int) -> bool:
        section = self._image.section_at(address)
        return section is not None and section.writable

    def _store_in(self, places: range, labels: Labels, block: int) -> None:
        """Note that some bytes may hold a value."""
        if self._asks or is_fact(labels):
            self._own_stores.update(places)
        if is_fact(labels) and (SUM not in labels or self._asks):
            (self._effects.stored if FACT in labels else self._effects.implied).update(places)
            self._effects.mixed.update(self._facts.nonzero_initially(places))
        elif ZERO not in labels:
            self._effects.overwritten.add((block, places))

    def fill(self, pointers: Iterable[Label], state: State) -> None:
        """Note that a function that was called stored facts where these point."""
        for pointer in pointers:
            if isinstance(pointer, StackSlot):
                offsets = range(pointer.offset, pointer.offset + UNSIZED, _FILLED_STEP)
                state.update({StackSlot(offset).place: ONLY_FACT for offset in offsets})
            elif isinstance(pointer, int):
                low, high = self._facts.extent(pointer)
                if self._is_writable(low):
                    self._effects.stored.update(range(low, high))
                    self._effects.mixed.update(self._facts.nonzero_initially(range(low, high)))

    def restores(self, step: Step, state: State) -> bool:
        """Tell whether a step reads from the stack, where values are only kept."""
        return any(memory.read and self.is_on_stack(memory, state) for memory in step.memory)
