"""The false alarms that docs/explanation/audit.md lists, to hold audits of real binaries against."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from helpers.paths import PROJECT

if TYPE_CHECKING:
    from cpufeat.auditing.report import Audit

PAGE = PROJECT / "docs" / "explanation" / "audit.md"
IN_CODE = re.compile(r"`([^`]+)`")
ON_ARM = " on Arm"


class Alarm(NamedTuple):
    """A row of the page's table of false alarms."""

    project: str
    """The project whose binaries have it."""
    features: set[str]
    functions: list[str]
    """Parts of the functions' names; empty if the page names none."""

    def explains(self, function: str, features: set[str]) -> bool:
        """Whether this alarm is of those features in that function; of code without a name, only features count."""
        named = not self.functions or "0x" in function or any(part in function for part in self.functions)
        return named and features <= self.features


def alarms(arch: str) -> list[Alarm]:
    """Return the rows of an architecture."""
    rows = (re.split(r" *\| *", line)[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| "))
    split = ((project, need.partition(" in ")) for project, need, _ in rows if project != "where")
    rows_of_page = [Alarm(project, {*IN_CODE.findall(need[0])}, IN_CODE.findall(need[2])) for project, need in split]
    assert rows_of_page, f"{PAGE.name} has no table of false alarms"
    return [alarm for alarm in rows_of_page if alarm.project.endswith(ON_ARM) == (arch == "aarch64")]


def unexplained(audit: Audit, project: str) -> list[tuple[str, set[str]]]:
    """Return the functions with bare uses that the page does not list, and those features."""
    known = [alarm for alarm in alarms(audit.arch) if alarm.project == project]
    assert known, f"{PAGE.name} has no row for {project}"
    bare = [(function.name, set(function.bare)) for function in audit.functions if function.bare]
    return [use for use in bare if not any(alarm.explains(*use) for alarm in known)]
