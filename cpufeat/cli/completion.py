"""Complete command lines: the candidates for the last word, and the shell scripts that ask for them."""

from __future__ import annotations

from itertools import pairwise

from cpufeat.cpus import cpus
from cpufeat.detection.detect import default_machine
from cpufeat.errors import CpufeatError
from cpufeat.features import table
from cpufeat.levels import levels
from cpufeat.llvm_tables import versions
from cpufeat.request import NATIVE
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.tables import of_triple, rows

if TYPE_CHECKING:
    from argparse import Action, ArgumentParser
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Candidate = tuple[str, str]
    """A word, and what it means, which may be empty."""

FILES = ("*", "names of files")
"""The only candidate where the name of a file is expected, which the shell completes itself."""

SCRIPTS = {
    "bash": """\
# Completion of cpufeat for bash: source this file, or put it into ~/.local/share/bash-completion/completions/cpufeat
_cpufeat() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("${line%%$'\\t'*}")
    done < <("$1" completion --words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${COMPREPLY[0]-} == '*' ]]; then
        COMPREPLY=()
        compopt -o default
    fi
}
complete -F _cpufeat cpufeat
""",
    "zsh": """\
#compdef cpufeat
# Completion of cpufeat for zsh: put this file as _cpufeat into a folder of $fpath, or source it after compinit
_cpufeat() {
    local line
    local -a lines candidates
    lines=("${(@f)$("${words[1]}" completion --words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ ${lines[1]} == '*'* ]]; then
        _files
        return
    fi
    for line in "${(@)lines:#}"; do
        candidates+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    _describe -t cpufeat cpufeat candidates
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
    _cpufeat "$@"
else
    compdef _cpufeat cpufeat
fi
""",
    "fish": """\
# Completion of cpufeat for fish: put this file into ~/.config/fish/completions/cpufeat.fish
function __cpufeat_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    set -l lines ($words[1] completion --words -- $words[2..-1] "$last" 2>/dev/null)
    if string match -q -- '\\**' "$lines[1]"
        __fish_complete_path "$last"
    else
        string join \\n -- $lines
    end
end
complete -c cpufeat -f -a '(__cpufeat_complete)'
""",
}
"""The script of each shell. All ask ``cpufeat completion --words`` for candidates."""


def candidates(words: Sequence[str], parser_of: Callable[[str | None], ArgumentParser]) -> list[Candidate]:
    """Return what the last of the words after ``cpufeat`` can be: :data:`FILES` alone for the name of a file.

    ``parser_of`` returns the parser of a verb, of the program for None, or raises CpufeatError for an unknown verb.
    Bash gives ``--option=value`` as three words, and gets the value alone.
    """
    *before, last = words or [""]
    if "=" in (last, *before[-1:]):
        before, last = (before, "") if last == "=" else (before[:-1], last)
    try:
        return [
            (word, text)
            for word, text in _possible(before, last, parser_of)
            if word.startswith(last) or word == FILES[0]
        ]
    except CpufeatError:
        return []


def _possible(before: list[str], last: str, parser_of: Callable[[str | None], ArgumentParser]) -> Iterable[Candidate]:
    place = _after_colour(before)
    verb = before[place] if place < len(before) else None
    given = before[place + 1 :]
    parser = parser_of(verb)
    if "--" in given:
        return [FILES]
    options = {name: action for action in parser._actions for name in action.option_strings}
    option, equals, value = last.partition("=")
    if equals and option in options:
        return ((f"{option}={word}", text) for word, text in _values(options[option], value, before))
    expecting = options.get(before[-1]) if before else None
    if expecting is not None and expecting.nargs is None:
        return _values(expecting, last, before)
    if last.startswith("-"):
        return ((name, action.help or "") for name, action in options.items() if name.startswith("--"))
    positional = _positional(parser, given, options)
    if positional and positional.metavar == "VERB":
        positional = _positional(parser_of(None), (), {})
    return _values(positional, last, before) if positional else ()


def _after_colour(words: Sequence[str]) -> int:
    """Return the place of the verb: after ``--color`` and its value."""
    place = 0
    while place < len(words) and words[place].startswith("--color"):
        place += 1 if "=" in words[place] else 2
    return place


def _positional(parser: ArgumentParser, given: Sequence[str], options: dict[str, Action]) -> Action | None:
    """Return the argument without a name that comes next, None if all are given."""
    taken = 0
    for word, previous in zip(given, ("", *given), strict=False):
        action = options.get(previous)
        taken += not word.startswith("-") and not (action is not None and action.nargs is None)
    expected = [action for action in parser._actions if not action.option_strings]
    if taken < len(expected):
        return expected[taken]
    return expected[-1] if expected and expected[-1].nargs == "+" else None


# --- values


def _values(action: Action, value: str, before: Sequence[str]) -> Iterable[Candidate]:
    """Return the candidates for a value of an argument: its choices, or what its metavar stands for."""
    if action.choices is not None:
        meanings = {choice.dest: choice.help or "" for choice in getattr(action, "_choices_actions", ())}
        return [(str(choice), meanings.get(str(choice), "")) for choice in action.choices]
    kind = str(action.metavar).partition(",")[0]
    if kind in ("FILE", "OUT", "DIR"):
        return [FILES]
    return _VALUES[kind](value, before) if kind in _VALUES else ()


def _arch(before: Sequence[str]) -> str:
    """Return the architecture that the words name, else that of this machine. Raises UnknownNameError."""
    for option, value in pairwise(before):
        if option in ("--arch", "--triple"):
            return of_triple(value)
    return of_triple(default_machine().arch)


def _requests(value: str, before: Sequence[str]) -> Iterator[Candidate]:
    """Yield levels and CPUs; behind a comma or a sign, features with a sign."""
    arch = _arch(before)
    end = max(value.rfind(","), value.rfind("+") - 1) + 1
    start, change = value[:end], value[end:]
    if start or change.startswith("+"):
        signs = [change[0]] if change[:1] in ("+", "-") else ["+", "-"]
        yield from ((start + sign + name, row.kind) for sign in signs for name, row in table(arch).items())
        return
    yield NATIVE, "this machine"
    yield from _levels(value, before)
    yield from ((name, "CPU") for name in cpus(arch) if name not in levels(arch))


def _lists(value: str, before: Sequence[str]) -> Iterator[Candidate]:
    """Yield the features that can follow in a comma-separated list."""
    start = value[: value.rfind(",") + 1]
    return ((start + name, row.kind) for name, row in table(_arch(before)).items())


def _levels(_: str, before: Sequence[str]) -> Iterator[Candidate]:
    return ((name, "level") for name in levels(_arch(before)))


def _architectures(_: str, __: Sequence[str]) -> Iterator[Candidate]:
    return ((arch, "architecture") for arch, *_ in rows("architectures.tsv"))


def _triples(_: str, __: Sequence[str]) -> Iterator[Candidate]:
    systems = ("linux-gnu", "linux-musl", "windows-gnu", "macos")
    return ((f"{triple}-{system}", "") for _, _, triple, *_ in rows("architectures.tsv") for system in systems)


def _llvms(_: str, __: Sequence[str]) -> Iterator[Candidate]:
    return ((str(version), "LLVM") for version in versions("x86_64"))


_VALUES: dict[str, Callable[[str, Sequence[str]], Iterator[Candidate]]] = {
    "REQUEST": _requests,
    "CPU": _requests,
    "FEATURE": _lists,
    "LEVEL": _levels,
    "ARCH": _architectures,
    "TRIPLE": _triples,
    "N": _llvms,
}
"""The candidates for each metavar, from the word so far and the words before it."""
