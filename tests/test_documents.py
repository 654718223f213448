"""The Python of the README and of the documents runs as it stands, block after block, and prints what it says."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# pages, and the packages that they need
PAGES: dict[str, list[str]] = {
    "README.md": [],
    "docs/dask_and_xarray.md": ["dask.array", "xarray"],
    "docs/datasets.md": ["PIL", "h5py", "zarr"],
    "docs/normalizer.md": [],
    "docs/recipes.md": ["sklearn"],
    "docs/scikit_learn.md": ["sklearn"],
    "docs/training.md": [],
    "docs/what_the_articles_say.md": [],
}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # the page on recipes shows one
def test_its_python(name: str) -> None:
    for package in PAGES[name]:
        pytest.importorskip(
            package, reason=f"the page runs with {package}: the extras [sklearn,dask,xarray,datasets,hdf5,zarr]"
        )
    page = ROOT / name
    if not page.is_file():
        pytest.skip(f"there is no {page}")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(page), "exec"), {})
    said = [line[2:] for line in code.splitlines() if line.startswith("# ")]
    assert said
    assert printed.getvalue().splitlines() == said


def test_extras_that_messages_name() -> None:
    """An extra that a message tells to install is there, and brings the package that is missing."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = dict(re.findall(r"^(\w+) = \[(.*)\]$", project, re.MULTILINE))
    named = 0
    for path in (ROOT / "python" / "batchnorm").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert path.name == "_extras.py" or "pip install 'batchnorm[" not in source.replace("``pip", "")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "needs":
                _, package, extra = (a.value if isinstance(a, ast.Constant) else None for a in node.args)
                assert extra in extras
                assert package is None or re.search(rf'"{re.escape(str(package).split()[0])}[\[>]', extras[str(extra)])
                named += 1
    assert named >= 9
