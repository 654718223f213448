"""The Python of the README and of the documents runs as it stands, block after block, and prints what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    "README.md",
    "docs/normalizer.md",
    "docs/scikit_learn.md",
    "docs/training.md",
    "docs/what_the_articles_say.md",
]


@pytest.mark.parametrize("name", PAGES)
def test_its_python(name: str) -> None:
    page = ROOT / name
    if not page.is_file():
        pytest.skip(f"there is no {page}")
    if name == "docs/scikit_learn.md":
        pytest.importorskip("sklearn", minversion="1.6", reason="needs the extra [sklearn]")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(page), "exec"), {})
    said = [line[2:] for line in code.splitlines() if line.startswith("# ")]
    assert said
    assert printed.getvalue().splitlines() == said
