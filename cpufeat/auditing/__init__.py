"""Audit a binary: which CPU features its instructions need, and which of them run without a run-time check.

In: a file. Out: an :class:`~cpufeat.auditing.report.Audit`. ``auditor`` runs the stages in order: ``formats`` (file ->
image), ``decoding`` (code -> features and where they are used), ``lifting`` (instructions -> what they do), ``program``
and ``dataflow`` (-> which branches depend on the CPU) and ``checks`` (-> which uses these guard, which operands are
misaligned, whether the ISA note is right).
"""

from cpufeat.auditing.auditor import audit as audit
from cpufeat.auditing.auditor import audit_image as audit_image
from cpufeat.auditing.report import Audit as Audit
from cpufeat.auditing.report import FunctionNeeds as FunctionNeeds
