"""Bundle what the interpreter needs in one round over a function: its graph, the facts known, the effects to fill."""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cpufeat.auditing.dataflow.effects import Effects
    from cpufeat.auditing.dataflow.facts import Facts
    from cpufeat.auditing.dataflow.lattice import Argument
    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.lifting.semantics import Convention, Step
    from cpufeat.auditing.program.cfg import ControlFlowGraph
    from cpufeat.auditing.program.functions import Program


class Frame(NamedTuple):
    """One round of interpretation of one function."""

    program: Program
    facts: Facts
    function: Function
    cfg: ControlFlowGraph
    convention: Convention
    argument_flow: Callable[[int], Mapping[int, Collection[Argument]]]
    """Returns the arguments that another function's results are made from, for its start."""
    wants_words: bool
    """Whether the words of other files that the function returns are wanted."""
    wants_argument_flow: bool
    """Whether the arguments that its results are made from are wanted."""
    resolving: bool
    """Whether it is an ``ifunc`` resolver."""
    conditional: Collection[int]
    """The blocks that some outcome of the tests of the round before avoids."""
    asks: bool
    """Whether the round before has shown that it asks."""
    effects: Effects

    def leaves(self, step: Step) -> bool:
        """Tell whether a jump is a direct one out of the function (a tail call)."""
        return step.target is not None and not self.function.start <= step.target < self.function.end
