"""Draw an audit's conclusions: guarded or bare uses of features, misaligned memory operands, the ISA-level note.

``guarded_uses`` takes the uses found by decoding: over the ``reference_graph`` of functions and data it propagates
``unavoidable_needs`` backwards up to the checks of the CPU, follows their ``exposure`` forwards from the entry points,
and gives the reasons. ``alignment`` and ``isa_note`` each look at an image by themselves.
"""
