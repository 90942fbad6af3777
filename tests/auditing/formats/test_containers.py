"""Archives and universal binaries: each spelling of a name, and sizes that cannot be right."""

from __future__ import annotations

import struct

import pytest

from cpufeat.auditing.formats.containers import archive_members, universal_members
from cpufeat.auditing.formats.loader import images
from cpufeat.errors import AuditError


def member(name: bytes, content: bytes, size: bytes | None = None) -> bytes:
    """A member of an archive, padded to an even size."""
    digits = b"%d" % len(content) if size is None else size
    header = name.ljust(16) + b"0".ljust(12) + b"0".ljust(6) * 2 + b"644".ljust(8) + digits.ljust(10) + b"`\n"
    return header + content + b"\n" * (len(content) % 2)


def archive(*members: bytes) -> bytes:
    return b"!<arch>\n" + b"".join(members)


def universal(*parts: tuple[int, int]) -> bytes:
    """A universal binary of x86-64 parts, each at an offset and of a size."""
    table = b"".join(struct.pack(">5I", 0x01000007, 3, offset, size, 0) for offset, size in parts)
    return b"\xca\xfe\xba\xbe" + struct.pack(">I", len(parts)) + table + bytes(100)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (archive(member(b"a/", b"odd"), member(b"b/", b"even")), ["a", "b"]),  # GNU
        (archive(member(b"/", b"symbols"), member(b"//", b"first.o/\nsecond.o/\n"), member(b"/9", b"x")), ["second.o"]),
        (archive(member(b"/SYM64/", b"symbols"), member(b"a", b"x")), ["a"]),
        (archive(member(b"//", b"first.obj\0second.obj\0"), member(b"/10", b"x")), ["second.obj"]),  # Microsoft
        (archive(member(b"/<ECSYMBOLS>/", b"symbols"), member(b"a.obj/", b"x")), ["a.obj"]),
        (
            archive(member(b"#1/20", b"__.SYMDEF SORTED\0\0\0\0table"), member(b"#1/8", b"a.o\0\0\0\0\0x")),
            ["a.o"],
        ),  # BSD
    ],
)
def test_members_have_the_names_of_each_kind_of_archive(content: bytes, names: list[str]) -> None:
    members = list(archive_members(content, "lib.a"))
    assert [name for _, name in members] == [f"lib.a({name})" for name in names]
    assert members[-1][0] in (b"x", b"even")


@pytest.mark.parametrize("size", [b"-60", b"-1", b"1_0", b"+1", b"0x1", b"", b"9999999999", b"5"])
def test_a_size_that_is_no_number_or_leads_outside_is_damage(size: bytes) -> None:
    content = archive(member(b"a/", b"abc", size))
    with pytest.raises(AuditError, match=r"a damaged archive: a member lies outside of it at 0x44"):
        list(archive_members(content, "lib.a"))


@pytest.mark.parametrize("content", [archive(b"x"), archive(member(b"a/", b"x")[:-4]), archive(b"x" * 60)])
def test_a_member_that_is_cut_off_is_damage(content: bytes) -> None:
    with pytest.raises(AuditError, match="a damaged archive"):
        list(archive_members(content, "lib.a"))


def test_many_members_cannot_share_a_long_name() -> None:
    content = archive(member(b"//", b"n" * 100_000), *[member(b"/0", b"")] * 1000)
    assert sum(len(name) for _, name in archive_members(content, "lib.a")) < 5_000_000


def test_parts_of_a_universal_binary_may_not_overlap() -> None:
    assert len(list(universal_members(universal((60, 50), (110, 20)), "fat"))) == 2
    with pytest.raises(AuditError, match="a damaged universal binary: its parts overlap"):
        list(universal_members(universal((60, 51), (110, 20)), "fat"))
    with pytest.raises(AuditError, match="a damaged universal binary: a part lies outside"):
        list(universal_members(universal((60, 10), (110, 2000)), "fat"))


def test_containers_nested_without_end_are_refused() -> None:
    nested = archive(member(b"a/", b""))
    for _ in range(2000):
        nested = archive(member(b"a/", nested))
    with pytest.raises(AuditError, match="too many nested containers"):
        list(images(nested))
