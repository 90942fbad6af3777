"""Every command and every piece of code in the documents is run, or says why it is not."""

from __future__ import annotations

import collections
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from helpers import snippets
from helpers.paths import PROJECT
from helpers.requirements import tool, unavailable

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = {
    path.relative_to(PROJECT).as_posix(): path
    for path in sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
}
BLOCKS = {name: snippets.blocks(path.read_text(encoding="utf-8")) for name, path in DOCUMENTS.items()}
RUN = [name for name, blocks in BLOCKS.items() if any(block.language in snippets.RUNNABLE for block in blocks)]
TOOLS = {" verify ": "qemu-x86_64", "qemu-x86_64 -cpu": "qemu-x86_64", " compile ": "cc", "cc -": "cc"}
"""What a document calls, and the tool that this needs."""


@pytest.mark.parametrize("name", RUN)
def test_what_a_document_tells_readers_to_run_does_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(block.text for block in BLOCKS[name])
    for call, name_of_tool in TOOLS.items():
        if call in text:
            tool(name_of_tool)
    if "jsonschema import" in text and not find_spec("jsonschema"):
        unavailable("jsonschema", "pip install '.[test]'")
    monkeypatch.chdir(tmp_path)
    snippets.prepare(DOCUMENTS[name], tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ran = snippets.run(BLOCKS[name], tmp_path, name)
    assert ran or all(block.marker for block in BLOCKS[name]), f"nothing of {name} was run"


def test_a_block_is_run_or_is_a_file_or_says_a_known_reason() -> None:
    run, reasons = 0, collections.Counter[str]()
    for name, block in ((name, block) for name, blocks in BLOCKS.items() for block in blocks):
        if block.marker == "not run":
            assert block.argument in snippets.REASONS, f"{name}:{block.line}: {block.argument} is no known reason"
            reasons[block.argument] += 1
        elif block.marker != "file":
            known = (*snippets.RUNNABLE, *snippets.SHOWN)
            assert block.language in known, f"{name}:{block.line}: nothing is known to run {block.language}"
            run += block.language in snippets.RUNNABLE
    assert reasons.keys() == set(snippets.REASONS), "a reason that no block has any more"
    assert (run >= 40, sum(reasons.values()) <= 10) == (True, True), f"{run} are run; not run: {dict(reasons)}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```console\n$ echo a\nb\n```\n", "page:1: echo a prints\na"),
        ("```sh\nfalse\n```\n", "page:1: false exits with 1"),
        ("<!-- exits with 1: true -->\n```sh\ntrue\n```\n", "page:2: true exits with 0"),
        ("```pycon\n>>> 1 + 1\n3\n```\n", "Expected:\n    3\nGot:\n    2"),
        ("```pycon\n1 + 1\n```\n", "no >>>"),
    ],
)
def test_a_command_that_does_something_else_is_found(
    text: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(snippets.SnippetError, match=complaint):
        snippets.run(snippets.blocks(text), tmp_path, "page")
