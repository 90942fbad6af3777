"""Read the input module: IR text, bitcode or an llvmlite module."""

from __future__ import annotations

import os
from pathlib import Path

from cpufeat.errors import CompileError
from cpufeat.support import files
from cpufeat.support.extras import extra
from cpufeat.support.value import Value

_BITCODE_MAGIC = (b"BC\xc0\xde", b"\xde\xc0\x17\x0b")
"""LLVM Bitcode File Format: raw bitcode, and the wrapper around it."""
_SIGILS = ";@%!$^"
"""What IR without white space begins with (LLVM Language Reference): a comment, a global, a type, metadata"""


class Source(Value):
    """A module, as bytes that LLVM reads."""

    name: str
    """Its name in messages: a path, or ``<string>``."""
    is_bitcode: bool
    """Whether the content is bitcode and not text."""
    content: bytes
    """Bitcode, or IR text in UTF-8."""

    @property
    def stem(self) -> str:
        """The file's name without folder and suffix; empty if the module is not from a file."""
        return "" if self.name.startswith("<") else Path(self.name).stem


def read(module: object) -> Source:
    """Return a module's text or bitcode.

    ``module`` is IR text, bitcode as bytes, the path of either, a module of ``llvmlite.ir`` or ``llvmlite.binding``, or
    a Source. A ``str`` is a path if it is one line that ends in ``.ll`` or ``.bc``, otherwise text; an ``os.PathLike``
    is a path. Whether a file is bitcode or text is decided by its content, not its name. Raises OSError, such as
    FileNotFoundError, for a file that cannot be read, CompileError for one that is no module, TypeError for other
    types.
    """
    if isinstance(module, Source):
        return module
    if isinstance(module, (str, os.PathLike)) and _is_c(os.fspath(module)):
        raise CompileError(f"{os.fspath(module)}: C source, not IR: pass cpufeat.aot.from_c(file, triple)")
    if isinstance(module, str):
        return _from_file(module) if _is_path(module) else _from_text("<string>", _ir(module))
    if isinstance(module, os.PathLike):
        return _from_file(os.fspath(module))
    if isinstance(module, (bytes, bytearray, memoryview)):
        return _from_bitcode(bytes(module))
    return _from_llvmlite(module)


def _is_path(text: str) -> bool:
    return text.endswith((".ll", ".bc")) and "\n" not in text


def _ir(text: str) -> str:
    """Return a text that can be IR. Raises CompileError for one that looks like the path of another kind of file."""
    if text and text[0] not in _SIGILS and not any(character.isspace() for character in text):
        raise CompileError(f"{text!r} is not IR: pass the path of a file as an os.PathLike, or one with .ll or .bc")
    return text


def _is_c(path: str | bytes) -> bool:
    return isinstance(path, str) and path.endswith(".c") and "\n" not in path


def _from_file(path: str) -> Source:
    try:
        content = files.read(path)
    except ValueError as error:
        raise CompileError(files.failure(path, error)) from None
    if content.startswith(_BITCODE_MAGIC):
        return Source(path, True, content)
    return _checked(Source(path, False, content))


def _from_text(name: str, text: str) -> Source:
    try:
        return _checked(Source(name, False, text.encode()))
    except UnicodeEncodeError as error:
        raise CompileError(f"{name}: character {error.start} of the IR is half of a surrogate pair") from None


def _checked(source: Source) -> Source:
    """Raise CompileError for text with a NUL: LLVM's parser stops there, and would silently ignore the rest."""
    position = source.content.find(b"\0")
    if position >= 0:
        line = source.content.count(b"\n", 0, position) + 1
        raise CompileError(f"{source.name}:{line}: a NUL byte: this is neither IR text nor bitcode")
    return source


def _from_bitcode(content: bytes) -> Source:
    if not content.startswith(_BITCODE_MAGIC):
        raise CompileError(f"{len(content)} bytes that are not LLVM bitcode: pass IR text as a str")
    return Source("<bitcode>", True, content)


def _from_llvmlite(module: object) -> Source:
    with extra("aot"):
        from llvmlite import binding, ir

    if isinstance(module, ir.Module):
        return _from_text(f"<module {module.name}>", str(module))
    if not isinstance(module, binding.ModuleRef):
        raise TypeError(f"module must be IR text, bitcode, a path or an llvmlite module, not {type(module).__name__}")
    if module.closed:
        raise CompileError("this llvmlite module was closed")
    return Source(f"<module {module.name}>", True, module.as_bitcode())
