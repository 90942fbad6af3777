"""The figure: how many of the machines in the public collections are named right, by the collections' own script."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from helpers.corpora import needs_corpora
from helpers.paths import PROJECT, SHARED

if TYPE_CHECKING:
    from pathlib import Path

WRONG: dict[str, str] = {}
"""Every answer that the script takes for wrong: what is wrong, and why."""


@needs_corpora
def test_every_dump_is_read_and_every_wrong_answer_is_explained() -> None:
    command = [sys.executable, str(SHARED / "score_identify.py"), "--show", "1000"]
    process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=PROJECT)
    *lines, last = process.stdout.splitlines()
    figure = re.fullmatch(r"right (\d+) of (\d+) named .*; unparsed (\d+) of (\d+)", last)
    assert figure, last
    right, named, unparsed, total = map(int, figure.groups())
    assert (named, total) == (1831, 2203)
    assert unparsed == 0
    assert right / named >= 0.995
    assert {line.split()[0] for line in lines if line.startswith(" ")} == WRONG.keys()


def test_an_architecture_without_tables_has_a_name_and_no_feature(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("system type: a router\nprocessor: 0\ncpu model: MIPS 74Kc V5.0\nisa: mips1 mips2 mips32r2\n")
    command = [sys.executable, "-m", "cpufeat", "identify", "--json", str(path)]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=PROJECT).stdout)
    assert (answer["arch"], answer["cpu"], answer["features"], answer["error"]) == ("mips", "generic", [], None)
    command[3:5] = ["explain", "--json", "--machine"]
    account = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=PROJECT).stdout)
    assert (account["arch"], account["cpu"], account["features"]) == ("mips", "generic", {})
    command[4:5] = ["x86-64-v3"]
    asked = subprocess.run(command, capture_output=True, check=False, cwd=PROJECT)
    assert (asked.returncode, asked.stdout) == (2, b"")
    assert b"unknown architecture 'mips'" in asked.stderr
