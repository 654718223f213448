"""The Python of the README and of the documents runs as it stands, block after block, and prints what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "docs/datasets.md", "docs/training.md", "docs/what_the_articles_say.md"]
PACKAGES = {"docs/datasets.md": ("PIL", "h5py", "zarr")}


@pytest.mark.parametrize("name", PAGES)
def test_its_python(name: str) -> None:
    page = ROOT / name
    if not page.is_file():
        pytest.skip(f"there is no {page}")
    for package in PACKAGES.get(name, ()):
        pytest.importorskip(package, reason="needs the extras [datasets,hdf5,zarr]")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(page), "exec"), {})
    said = [line[2:] for line in code.splitlines() if line.startswith("# ")]
    assert said
    assert printed.getvalue().splitlines() == said
