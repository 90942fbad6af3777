"""The table of formats: each is recognized by its first bytes, read in one way, and named wherever users look."""

from __future__ import annotations

import pytest

import cpufeat
from cpufeat.auditing.formats.loader import FORMATS, Format, format_of, image_of, loads
from cpufeat.cli import main
from cpufeat.errors import AuditError

NAMES = [known.name for known in FORMATS]
FIRST_BYTES = {
    "ELF": b"\x7fELF",
    "Mach-O": b"\xcf\xfa\xed\xfe",
    "PE": b"MZ" + bytes(62),
    "COFF": b"\x64\x86\xff\xff" + b"\xff" * 16,
    "archive": b"!<arch>\n" + b"x" * 70,
    "universal": b"\xca\xfe\xba\xbe\0\0\0\x02",
    "thin": b"!<thin>\n",
}
"""An example of each format, cut off where the next byte would have to be right."""
SYSTEMS = {"linux": {"ELF"}, "freebsd": {"ELF"}, "darwin": {"Mach-O"}, "windows": {"PE", "COFF"}}
"""What the loader of each operating system takes, besides what it finds in containers."""


def test_every_format_has_an_example_here() -> None:
    assert set(NAMES) == FIRST_BYTES.keys(), "a format is added by a row of FORMATS and its first bytes in this file"


@pytest.mark.parametrize("name", NAMES)
def test_a_format_is_recognized_by_its_own_row_alone(name: str) -> None:
    content = FIRST_BYTES[name]
    assert [known.name for known in FORMATS if known.recognizes(content)] == [name], "two formats begin alike"


@pytest.mark.parametrize("known", FORMATS, ids=NAMES)
def test_a_format_is_read_as_an_image_or_by_its_members_or_refused(known: Format) -> None:
    ways = [way for way in ("image", "members", "refusal") if getattr(known, way)]
    assert len(ways) == 1, f"the row of {known.name} in FORMATS needs one of image, members and refusal, not {ways}"


@pytest.mark.parametrize("known", FORMATS, ids=NAMES)
def test_a_file_that_is_cut_off_is_damaged_or_refused_by_name(known: Format) -> None:
    with pytest.raises(AuditError, match=known.refusal or f"a damaged {known.name}"):
        cpufeat.audit(FIRST_BYTES[known.name])


@pytest.mark.parametrize("known", [known for known in FORMATS if not known.refusal], ids=lambda known: known.name)
def test_the_documentation_of_an_audit_names_the_format(known: Format, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["audit", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert known.name in shown, f"`cpufeat audit --help` does not name {known.name} (cpufeat/cli/verbs/audit.py)"
    assert known.name in (cpufeat.audit.__doc__ or ""), f"the docstring of cpufeat.audit does not name {known.name}"


def test_any_other_file_is_of_no_format() -> None:
    for content in (b"", b"\x7fEL", b"#!/bin/sh\n", b"\xca\xfe\xba\xbe\0\0\0\x34", b"\x64\x86", b"!<arch>"):
        assert format_of(content) is None


def test_a_file_that_is_no_binary_is_refused_with_the_known_formats() -> None:
    with pytest.raises(AuditError, match=r"not a binary \(.*, or an archive of them\)") as refusal:
        cpufeat.audit(b"#!/bin/sh\n")
    assert [known.name for known in FORMATS if known.image and known.name not in str(refusal.value)] == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_loads_its_own_formats_and_any_container(system: str) -> None:
    expected = SYSTEMS[system] | {known.name for known in FORMATS if known.members}
    assert {name for name in NAMES if loads(system, name)} == expected, "name the system of a format in its row"


def test_a_fault_of_a_reader_is_not_taken_for_a_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of lief that lacks what a reader asks for must be seen (``lief.COFF`` came with 0.17)."""
    monkeypatch.delattr("lief.COFF")
    with pytest.raises(AttributeError, match="COFF"):
        image_of(bytes.fromhex("6486") + bytes(60), "some.obj")
