"""A program that says what the CPU lacks, before any of its code runs that needs it.

The code of a guard is in the object that it guards, uses nothing above the baseline, and asks about the features of a
table: each with a ``+`` where the code needs it, a ``-`` where it does not. What is compiled may need all that its
target has; what it does need is known when its instructions have been read, and then the table is :func:`narrowed
<narrow>`. An ELF object for x86-64 whose needs amount to a level of the psABI states that as well, for glibc's loader.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cpufeat import llvm
from cpufeat.aot.detector import runs
from cpufeat.aot.elf import EM_X86_64, MAGIC, SHF_ALLOC, SHT_NOTE, Elf
from cpufeat.aot.ir import Body, constant
from cpufeat.aot.readings import Reader, reader
from cpufeat.errors import ArtifactError, TargetError
from cpufeat.features import FeatureSet
from cpufeat.levels import baseline, level_features, levels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from cpufeat.target import Target

    Mode = Literal["exit", "ask"]

EXIT_STATUS = 126
"""A command that was found and cannot be executed (POSIX, Shell Command Language, 2.8.2)."""
SUPPORTED = "cpufeat_supported"
"""What answers in mode ``"ask"``: ``int cpufeat_supported(void)``."""
_TABLE = b"\x7fcpufeat needs\x9d"
"""What the table begins with. A sign follows: ``!`` where whatever runs needs something, ``+`` where there may be
a variant that needs something else, ``-`` where nothing is needed. Then features, ``+avx2`` or ``-avx2``, each ended by
a NUL, and one more NUL."""


def guard(targets: Sequence[Target], name: str, *, mode: Mode = "exit", beside_detector: bool = False) -> str:
    """Return LLVM IR that guards code for targets, best first, the last of which runs where no other does.

    ``mode``
        ``"exit"``: a constructor, before all others, that writes to standard error ``NAME: this CPU lacks: avx512f
        (needed by this program, built for x86-64-v4)`` and exits with 126. ``"ask"``: a function
        ``int cpufeat_supported(void)`` for those who load the library, and nothing else.
    ``beside_detector``
        Whether the text of :func:`cpufeat.aot.detector.detector` is in the same module.

    Empty where there is nothing to guard: the last target is the baseline, or emitted code cannot tell (neither x86 nor
    64-bit Arm). What nothing tells is not guarded. A state that the process must ask the kernel for counts as usable,
    since it asks when it runs.
    """
    *others, last = targets
    try:
        machine = reader(last)
    except TargetError:
        return ""
    guarded = [
        name
        for name in last.features.isa - level_features(last.arch, baseline(last.arch))
        if _is_told(machine, last.arch, name)
    ]
    if not guarded:
        return ""
    parts = [] if beside_detector else [machine.instructions(), machine.helpers()]
    states_level = mode == "exit" and all(last <= other for other in others)
    parts += [_table(guarded, "!" if states_level else "+"), _missing(machine, others, last.arch, guarded)]
    parts += [
        _lacking(machine, guarded),
        _answer(machine) if mode == "ask" else _refusal(machine, targets, name, guarded),
    ]
    return "\n".join(parts).replace("MASK", f"i{len(guarded) + 1}")


def _is_told(machine: Reader, arch: str, name: str) -> bool:
    try:
        runs(Body(""), machine, FeatureSet(arch, [name]))
    except TargetError:
        return False
    return True


def _table(guarded: Sequence[str], sign: str) -> str:
    content = _TABLE + sign.encode() + b"".join(f"+{name}\0".encode() for name in guarded) + b"\0"
    return f"@__cpufeat_needs = internal constant {constant(content)}\n"


def _sign(body: Body, guarded: Sequence[str], index: int) -> str:
    """Return an ``i8*`` to the sign of a feature in the table, or at -1 to that of all."""
    sizes = [1, *(len(name) + 2 for name in guarded)]
    kind, offset = f"[{len(_TABLE) + sum(sizes) + 1} x i8]", len(_TABLE) + sum(sizes[: index + 1])
    return body.let(f"getelementptr inbounds {kind}, {kind}* @__cpufeat_needs, i64 0, i64 {offset}")


def _missing(machine: Reader, others: Sequence[Target], arch: str, guarded: Sequence[str]) -> str:
    """Define ``@__cpufeat_missing``: the features of the table that are needed and not usable, the first bit lowest.

    The table is read as if it could change, since it will after LLVM is done.
    """
    body, missing = Body("__cpufeat_missing"), "0"
    for index, name in enumerate(guarded):
        is_needed = body.let(
            f"icmp eq i8 {body.let(f'load volatile i8, i8* {_sign(body, guarded, index)}')}, {ord('+')}"
        )
        lacks = body.let(f"xor i1 {runs(body, machine, FeatureSet(arch, [name]), permitted=False)}, true")
        bit = body.let(f"select i1 {body.all([is_needed, lacks])}, MASK {1 << index}, MASK 0")
        missing = body.let(f"or MASK {missing}, {bit}")
    for target in others:
        missing = body.let(f"select i1 {runs(body, machine, target.features)}, MASK 0, MASK {missing}")
    parameters = ", ".join(f"i64 %{word}" for word in machine.words)
    return body.function("MASK", parameters, machine.attributes, f"ret MASK {missing}")


def _lacking(machine: Reader, guarded: Sequence[str]) -> str:
    """Define ``@__cpufeat_lacking``, which asks only if the table has something that is needed."""
    sign, ask = Body("__cpufeat_lacking"), Body("__cpufeat_lacking")
    is_free = sign.let(f"icmp eq i8 {sign.let(f'load volatile i8, i8* {_sign(sign, guarded, -1)}')}, {ord('-')}")
    arguments = machine.called(ask)
    return f"""
define internal MASK @__cpufeat_lacking() {machine.attributes} {{
{sign.instructions()}
  br i1 {is_free}, label %none, label %ask
none:
  ret MASK 0
ask:
{ask.instructions().replace("%v", "%a")}
  %missing = call MASK @__cpufeat_missing({arguments.replace("%v", "%a")})
  ret MASK %missing
}}
"""


def _answer(machine: Reader) -> str:
    exported = "dllexport " if machine.system == "windows" else ""
    return f"""
define {exported}i32 @{SUPPORTED}() {machine.attributes} {{
  %missing = call MASK @__cpufeat_lacking()
  %is.none = icmp eq MASK %missing, 0
  %answer = zext i1 %is.none to i32
  ret i32 %answer
}}
"""


def _refusal(machine: Reader, targets: Sequence[Target], name: str, guarded: Sequence[str]) -> str:
    """Define the constructor, which puts the message together in memory, and hands it to the system at once."""
    printable = "".join(character if character.isprintable() else "?" for character in name)
    built = ", ".join(dict.fromkeys(target.cpu for target in targets))
    head, tail = f"{printable}: this CPU lacks: ", f" (needed by this program, built for {built})\n"
    body = Body("__cpufeat_guard")
    is_windows = machine.system == "windows"
    values = {
        "ROOM": str(len((head + tail).encode()) + sum(len(feature) + 2 for feature in guarded)),
        "HEAD": body.text(head),
        "TAIL": body.text(tail),
        "COMMA": body.text(", "),
        "NOTHING": body.text(""),
        "FIRST": _sign(body, guarded, 0),
        "SIZE": "i32" if is_windows or machine.arch == "i686" else "i64",
        "WRITE": "_write" if is_windows else "write",
        "ATTRIBUTES": machine.attributes,
        "STATUS": str(EXIT_STATUS),
    }
    text = _REFUSAL
    for word, value in values.items():
        text = text.replace(word, value)
    return body.constants() + text.replace("GIVEN", body.instructions())


_REFUSAL = """\
@llvm.global_ctors = appending global [1 x { i32, void ()*, i8* }] \
[{ i32, void ()*, i8* } { i32 0, void ()* @__cpufeat_guard, i8* null }]
declare SIZE @WRITE(i32, i8*, SIZE)
declare void @_exit(i32)
define internal i8* @__cpufeat_append(i8* %to, i8* %text) ATTRIBUTES {
start:
  br label %next
next:
  %place = phi i8* [ %to, %start ], [ %place.after, %next ]
  %from = phi i8* [ %text, %start ], [ %from.after, %next ]
  %character = load volatile i8, i8* %from
  store i8 %character, i8* %place
  %place.after = getelementptr i8, i8* %place, i64 1
  %from.after = getelementptr i8, i8* %from, i64 1
  %is.end = icmp eq i8 %character, 0
  br i1 %is.end, label %end, label %next
end:
  ret i8* %place
}
define internal void @__cpufeat_guard() ATTRIBUTES {
start:
  %message = alloca [ROOM x i8]
  %missing = call MASK @__cpufeat_lacking()
  %is.none = icmp eq MASK %missing, 0
  br i1 %is.none, label %run, label %refuse
run:
  ret void
refuse:
GIVEN
  %begin = getelementptr [ROOM x i8], [ROOM x i8]* %message, i64 0, i64 0
  %begin.listed = call i8* @__cpufeat_append(i8* %begin, i8* HEAD)
  br label %next
next:
  %at = phi i8* [ %begin.listed, %refuse ], [ %at.after, %next ]
  %comma = phi i8* [ NOTHING, %refuse ], [ %comma.after, %next ]
  %record = phi i8* [ FIRST, %refuse ], [ %record.after, %next ]
  %left = phi MASK [ %missing, %refuse ], [ %left.after, %next ]
  %name = getelementptr i8, i8* %record, i64 1
  %named = call i8* @__cpufeat_append(i8* %at, i8* %comma)
  %listed = call i8* @__cpufeat_append(i8* %named, i8* %name)
  %is.missing = trunc MASK %left to i1
  %at.after = select i1 %is.missing, i8* %listed, i8* %at
  %comma.after = select i1 %is.missing, i8* COMMA, i8* %comma
  %start.number = ptrtoint i8* %named to SIZE
  %end.number = ptrtoint i8* %listed to SIZE
  %length = sub SIZE %end.number, %start.number
  %name.end = getelementptr i8, i8* %name, SIZE %length
  %record.after = getelementptr i8, i8* %name.end, i64 1
  %left.after = lshr MASK %left, 1
  %is.over = icmp eq MASK %left.after, 0
  br i1 %is.over, label %say, label %next
say:
  %end = call i8* @__cpufeat_append(i8* %at.after, i8* TAIL)
  %from = ptrtoint i8* %begin to SIZE
  %to = ptrtoint i8* %end to SIZE
  %size = sub SIZE %to, %from
  %written = call SIZE @WRITE(i32 2, i8* %begin, SIZE %size)
  call void @_exit(i32 STATUS)
  unreachable
}
"""


# --- after code generation


def narrow(content: bytes, used: FeatureSet) -> bytes:
    """Return an object whose guard asks for no more than ``used``, what the last target's instructions need.

    In an ELF object for x86-64 it states their level as well (:func:`isa_level`), unless it is one to be asked. Without
    a guard it comes back as it is. Raises ArtifactError for an object with several.
    """
    start = content.find(_TABLE) + len(_TABLE)
    if start < len(_TABLE):
        return content
    if _TABLE in content[start:]:
        raise ArtifactError("the object holds several tables of what it needs: does its data contain another one?")
    end = content.index(b"\0\0", start) + 1
    names = [row[1:] for row in content[start + 1 : end].split(b"\0")[:-1]]
    is_needed = [name.decode() in used for name in names]
    sign = content[start : start + 1] if any(is_needed) else b"-"
    rows = [b"%s%s\0" % (b"+" if needed else b"-", name) for needed, name in zip(is_needed, names, strict=True)]
    narrowed = content[:start] + sign + b"".join(rows) + content[end:]
    level = isa_level(used) if sign == b"!" else ""
    return _stating(narrowed, level) if level else narrowed


def isa_level(used: FeatureSet) -> str:
    """Return the level above the baseline that features amount to, empty if there is none.

    It is the lowest that has them all, if every CPU that LLVM knows and that has them all has that level: code with
    AVX2 and FMA needs x86-64-v3, while code with AVX alone, or with AVX512VNNI, needs no level.
    """
    lowest, *higher = levels(used.arch)
    isa, cpus = used.isa, llvm.load(used.arch)
    level = next((name for name in (lowest, *higher) if isa <= level_features(used.arch, name)), lowest)
    has = [features for cpu in cpus.cpus if (features := cpus.cpu_features(cpu))]
    amounts = all(level_features(used.arch, level) <= features for features in has if isa <= features)
    return level if amounts and level != lowest else ""


def _stating(content: bytes, level: str) -> bytes:
    """Return an ELF object for x86-64 with the property that it needs a level; others come back as they are.

    Linkers join properties of this kind by "or" (x86-64 psABI, Linux extensions), or drop them, as lld does.
    """
    if not content.startswith(MAGIC) or Elf(content).header.machine != EM_X86_64:
        return content
    bits = (2 << list(levels("x86_64")).index(level)) - 1
    property_ = struct.pack("<4I", _ISA_1_NEEDED, 4, bits, 0)
    payload = struct.pack("<3I4s", 4, len(property_), _NT_GNU_PROPERTY_TYPE_0, b"GNU\0") + property_
    return Elf(content).with_section(b".note.gnu.property", SHT_NOTE, SHF_ALLOC, payload, 8)


_NT_GNU_PROPERTY_TYPE_0, _ISA_1_NEEDED = 5, 0xC0008002
