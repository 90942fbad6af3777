"""Draw docs/explain.svg: the output of ``cpufeat explain`` for a recorded machine.

    python tools/explain_picture.py

The machine is a Haswell without AVX, emulated by QEMU.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cpufeat  # noqa: E402
from cpufeat.cli.explain_page import page  # noqa: E402
from cpufeat.cli.layout import lay_out  # noqa: E402
from cpufeat.cli.terminal import paint  # noqa: E402

MACHINE = ROOT / "data" / "machines" / "qemu-haswell-without-avx.json"
PICTURE = ROOT / "docs" / "explain.svg"
WIDTH = 80
FONTS = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"


def main() -> None:
    """Write the picture; it uses fonts of the viewer's system, so that it loads nothing from elsewhere."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    paint(console, lay_out(page(cpufeat.explain(machine=cpufeat.load_machine(MACHINE))), WIDTH))
    svg = console.export_svg(title="python -m cpufeat --explain", unique_id="explain")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    PICTURE.write_text(svg.replace("Fira Code, monospace", FONTS), encoding="utf-8")


if __name__ == "__main__":
    main()
