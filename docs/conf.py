"""Sphinx builds the site from this folder: ``python -m sphinx -W --keep-going -n docs OUT``."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

from sphinx.addnodes import pending_xref  # noqa: E402

from cpufeat import __version__  # noqa: E402

if TYPE_CHECKING:
    from docutils.nodes import Element, document
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "cpufeat"
author = "the cpufeat developers"
release = version = __version__

extensions = [
    "command_line",
    "myst_parser",
    "public_names",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_argparse_cli",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes_action = "q"  # quotation marks only: -- is an option, and ... an output
copybutton_prompt_text = "$ "

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # not what half of this machine's memory is
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
nitpicky = True  # an unresolved reference to a public name is a warning, and with -W an error
nitpick_ignore_regex = [("py:.*", r"(?!cpufeat(\.aot)?\.[^.]+$).*")]  # the standard library, and what is not public

html_theme = "furo"
pygments_dark_style = "github-dark"  # the default underlines names of modules like links
html_title = "cpufeat"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False


def _by_last_name(app: Sphinx, env: BuildEnvironment, reference: pending_xref, content: Element) -> Element | None:
    """Resolve ``cpufeat.target.Target``, or an annotation ``Target``, to the public ``cpufeat.Target``."""
    name = reference["reftarget"].rpartition(".")[2]
    if reference.get("refdomain") != "py" or hasattr(builtins, name):
        return None
    python = env.domains.python_domain
    found = [full for full in python.objects if full.rpartition(".")[2] == name]
    if len(found) != 1:
        return None
    return python.resolve_xref(env, reference["refdoc"], app.builder, "obj", found[0], reference, content)


def _look_up_built_in_types_exactly(_: Sphinx, document: document) -> None:
    """Keep Sphinx from resolving an annotation ``bytes`` to a field of that name, by the end of a dotted name."""
    for reference in document.findall(pending_xref):
        if hasattr(builtins, reference.get("reftarget", "")):
            reference.attributes.pop("refspecific", None)


def setup(app: Sphinx) -> None:
    """Connect what this file adds to Sphinx."""
    app.connect("doctree-read", _look_up_built_in_types_exactly)
    app.connect("missing-reference", _by_last_name)
