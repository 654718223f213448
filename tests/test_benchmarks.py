"""The harness of benchmarks/: its shapes, and what it makes of times. No peer is needed, and nothing is timed."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rich", reason="needs the extra [bench] or [benchmarks]")

from rich.console import Console

from batchnorm.bench.report import machine
from benchmarks import cases, recipes, table
from benchmarks.cells import Cell, geometric_means, medians, peer_names


def cell(layout: str = "first", job: str = "train", ours: float = 1.0, nbytes: int = 4_000_000, **peers: float) -> Cell:
    """A cell in which PyTorch has a fresh time of 3."""
    buffer = {**peers, "ours": ours}
    return Cell("2x3x4", layout, job, nbytes // 4, nbytes, buffer, {"PyTorch": 3.0, "JAX": 8.0, "ours": 1.5}, 0.5)


def test_sets_of_shapes() -> None:
    sets = cases.sets()
    assert {"resnet_50", "topologies_small", "regressions", "3d", "nc", "batch1", "batch8"} <= set(sets)
    assert (1_000_000, 30) in sets["nc"]
    for name, batch in (("batch1", 1), ("batch8", 8)):
        assert [shape[0] for shape in sets[name]] == [batch] * len(sets[name])
        assert [shape[1:] for shape in sets[name]] == [shape[1:] for shape in sets["resnet_50"]]


def test_shapes_by_name_and_spelled_out() -> None:
    assert cases.parse("nc,2x3x4") == [*cases.NC, (2, 3, 4)]
    with pytest.raises(ValueError, match=r"expected one of .*nc, batch1, batch8, or a shape like .*; got 'nonsense'"):
        cases.parse("nonsense")


def test_each_case_once() -> None:
    found = cases.both_layouts([(2, 3, 4), (5, 6), (2, 3, 4)])
    assert [(case.label, case.layout) for case in found] == [("2x3x4", "first"), ("2x3x4", "last"), ("5x6", "last")]


def test_the_curve_doubles_as_far_as_it_may() -> None:
    sizes = [math.prod(shape) for shape in cases.curve(10**12)]
    assert sizes == [2**k for k in range(10, 30)]
    assert {shape[1] for shape in cases.curve(10**12)} == {cases.CURVE_CHANNELS}
    assert math.prod(cases.curve(10**6)[-1]) == 2**17


def test_fastest_peer_and_ratios() -> None:
    c = cell(PyTorch=2.0, oneDNN=1.8)
    assert c.peers == {"PyTorch": 2.0, "oneDNN": 1.8, "JAX": 8.0}  # fresh where there is no buffer
    assert c.fastest == "oneDNN"
    assert c.speedup == 1.8
    assert c.over("JAX") == 8
    assert c.over("ONNX Runtime") is None
    assert c.fresh_speedup == 2
    assert c.percent_of_limit == 50


def test_a_cell_without_peers() -> None:
    c = Cell("2x3", "last", "train", 6, 24, {"ours": 1.0}, {"ours": 1.0}, 0.5)
    assert (c.fastest, c.speedup, c.fresh_speedup, c.is_lost) == (None, None, None, False)


def test_geometric_means() -> None:
    cells = [cell(oneDNN=2.0), cell("last", oneDNN=1.0), cell("last", oneDNN=0.5)]
    means = geometric_means(cells, lambda c: c.over("oneDNN"))
    assert means == pytest.approx({"first": 2, "last": 0.5**0.5, "all": 1})
    assert geometric_means(cells, lambda c: None) == {}
    assert table.summary(cells)["PyTorch"]["all"] == pytest.approx(3)


@pytest.mark.parametrize(
    ("theirs", "nbytes", "lost"),
    [(0.9, 4_000_000, True), (0.98, 4_000_000, False), (1.2, 4_000_000, False), (0.5, 999_999, False)],
    ids=["faster", "within the tolerance", "slower", "small"],
)
def test_lost_cells(theirs: float, nbytes: int, lost: bool) -> None:
    assert cell(oneDNN=theirs, nbytes=nbytes).is_lost is lost


def test_medians_over_runs() -> None:
    runs = [[cell(ours=t, oneDNN=10 * t), cell("last", oneDNN=t)] for t in (1.0, 9.0, 2.0)]
    first, last = medians(runs)
    assert first.buffer == {"oneDNN": 20.0, "ours": 2.0}
    assert (last.layout, last.buffer["oneDNN"]) == ("last", 2.0)
    with pytest.raises(ValueError, match="the same cells"):
        medians([[cell()], [cell("last")]])


def test_what_is_printed_and_written(tmp_path: Path) -> None:
    cells = [cell(oneDNN=0.5), cell("last", oneDNN=2.0), cell(job="backward")]
    assert peer_names(cells) == ["PyTorch", "JAX", "oneDNN"]
    console = Console(file=io.StringIO(), width=200)
    table.print_tables(console, cells, "title", ["PyTorch", "oneDNN", "JAX", "absent"])
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.index("oneDNN") < text.index("JAX*") and "absent" not in text
    assert "JAX*" in text and "oneDNN*" not in text
    assert "0.50x  2x3x4, channels first, train: oneDNN is faster" in text
    assert "Of 3 cells of 1 MB and more, 1 are below 1" in text
    table.write_json(tmp_path / "run.json", cells, machine(), {"oneDNN": "1"}, ["a remark"])
    report = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert report["cells"][0]["fastest"] == "oneDNN"
    assert report["geometric_means"]["train"]["fastest"]["all"] == pytest.approx(1)
    assert report["remarks"] == ["a remark"]


def test_errors_of_recipes() -> None:
    x = recipes.values(recipes.WINDOW + 77)
    mean, std = recipes.truth(x)
    wide = x.astype(np.longdouble)
    assert abs(mean - wide.mean(axis=0)).max() < 1e-17
    assert abs(std - wide.std(axis=0)).max() < 1e-17
    named = {"exact": lambda _: (mean, std), "off": lambda _: (mean * 1.25, std * [1, 1.5, 1])}
    found = {name: errors for name, *errors in recipes.errors(x, named)}
    assert found == {"exact": [0, 0], "off": [0.25, 0.5]}
    ours = next(errors for errors in recipes.errors(x, recipes.recipes()) if errors[0] == recipes.OURS)
    assert max(ours[1:]) < 1e-14


def test_picture_of_recipes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [bench] or [benchmarks]")
    assert recipes.sizes(3000) == [100, 300, 1000, 3000]
    found = {"NumPy": [(100, 1e-7, 1e-6), (300, 1e-6, 1e-5)], recipes.OURS: [(100, 0.0, 1e-16), (300, 0.0, 0.0)]}
    recipes.draw(tmp_path / "recipes.png", found, "Errors")
    assert (tmp_path / "recipes.png").read_bytes().startswith(b"\x89PNG")
