"""What a binary needs of a CPU, from its own instructions."""

from cpufeat.auditing.auditor import audit as audit
from cpufeat.auditing.auditor import audit_image as audit_image
from cpufeat.auditing.report import Audit as Audit
from cpufeat.auditing.report import FunctionNeeds as FunctionNeeds
