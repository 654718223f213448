"""The README's Python runs as it stands, block after block, and prints what its comments say."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"

pytestmark = pytest.mark.skipif(not README.is_file(), reason=f"there is no {README}")


def test_the_python_of_the_readme() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(README), "exec"), {})
    said = [line[2:] for line in code.splitlines() if line.startswith("# ")]
    assert said
    assert printed.getvalue().splitlines() == said
