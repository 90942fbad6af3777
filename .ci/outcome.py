"""Fail where CI lost tests: ``python .ci/outcome.py JUNIT_XML LEAST_PASSED [REASON]``, in the project's folder.

CI installs nearly all that a test may need, so only a few reasons to skip one are good; where it does not, the regular
expression REASON matches further ones. ``../shared`` is not part of
the project: where it is missing, the tests that read it count as passed, so that one number holds with and without it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

ALLOWED = {
    "this machine or its qemu cannot": r"qemu-user cannot emulate|no PR_SET_MDWE|may not mount",
    "only AArch64 is run live": r"not asked to run on (armhf|i386|ppc64el|riscv64|s390x)",
    "an older LLVM cannot": r"a fault of LLVM|LLVM before 16",
}
SHARED = r"\.\./shared"


def main() -> None:
    """Print how many tests passed; exit with a message if too few did or one was skipped for no good reason."""
    least, cases = int(sys.argv[2]), list(ElementTree.parse(sys.argv[1]).iter("testcase"))
    reasons = [skip.get("message", "") for case in cases for skip in case.iter("skipped")]
    passed = sum({child.tag for child in case}.isdisjoint({"error", "failure", "skipped"}) for case in cases)
    missing = 0 if Path("../shared").is_dir() else sum(bool(re.search(SHARED, reason)) for reason in reasons)
    allowed = "|".join([*ALLOWED.values(), *sys.argv[3:], *([SHARED] if missing else [])])
    refused = sorted({reason for reason in reasons if not re.search(allowed, reason)})
    if refused:
        sys.exit("skipped, though CI has what these tests need:\n" + "\n".join(refused))
    if passed + missing < least:
        sys.exit(f"{passed} tests passed and {missing} want ../shared: fewer than {least}, the least (see .ci/run)")
    print(f"{passed} tests passed, {missing} want ../shared; the least is {least}")


if __name__ == "__main__":
    main()
