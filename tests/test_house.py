"""The rooms of the house and the arrows between them, read from the sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CPP = ROOT / "cpp"
ROOMS = ["simd", "kernels", "dispatch", "core", "bindings"]  # a room knows those before it
DOOR = "dispatch/kernel_table.h"  # what kernels may know of the room after them: plain data and function pointers

pytestmark = pytest.mark.skipif(not CPP.is_dir(), reason=f"there are no C++ sources in {CPP}")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def sources(*rooms: str) -> list[Path]:
    return sorted(p for room in rooms for p in (CPP / room).rglob("*") if p.suffix in {".h", ".hpp", ".cpp", ".cc"})


def code_of(path: Path) -> str:
    """Without comments."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def includes(path: Path) -> Iterator[tuple[bool, str]]:
    """(whether it is of this house, what is included). One of the house is told from cpp/ on."""
    for bracket, name in INCLUDE.findall(code_of(path)):
        beside = (path.parent / name).resolve()
        if bracket == '"' and beside.is_relative_to(CPP) and beside.is_file():
            yield True, beside.relative_to(CPP).as_posix()
        else:
            yield (CPP / name).is_file(), name


def test_there_is_something_in_every_room() -> None:
    for room in ROOMS:
        assert sources(room), room
    assert {p.parent.relative_to(CPP).parts[0] for p in CPP.rglob("*.cpp")} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_one_way(room: str) -> None:
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    wrong = [
        f"{path.relative_to(CPP)} includes {name}"
        for path in sources(room)
        for ours, name in includes(path)
        if ours and name.partition("/")[0] not in allowed and not (room == "kernels" and name == DOOR)
    ]
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_included_in_quotes_is_ours(room: str) -> None:
    for path in sources(room):
        for bracket, name in INCLUDE.findall(code_of(path)):
            assert (bracket == '"') == any(ours for ours, n in includes(path) if n.endswith(name)), f"{path}: {name}"


def test_kernels_include_nothing_that_could_be_shared() -> None:
    """Two copies of one inline function may become one, the AVX-512 one, and an old CPU dies."""
    harmless = re.compile(r"cstddef|cstdint|\w*intrin\.h|arm_neon\.h")
    wrong = [
        f"{path.relative_to(CPP)} includes {name}"
        for path in [*sources("simd", "kernels"), CPP / DOOR]
        for ours, name in includes(path)
        if not ours and not harmless.fullmatch(name)
    ]
    assert not wrong


def test_kernels_use_nothing_of_the_standard_library() -> None:
    """No allocation, exception, virtual or std:: but sizes."""
    banned = re.compile(
        r"\bstd::(?!size_t\b|ptrdiff_t\b|u?int\d+_t\b|uintptr_t\b)\w+|\b(?:new|throw|virtual|malloc|printf)\b"
    )
    wrong = [
        f"{path.relative_to(CPP)}: {match[0]}"
        for path in sources("simd", "kernels")
        for match in banned.finditer(code_of(path))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("what", "pattern", "home"),
    [
        ("OpenMP", r"#\s*pragma\s+omp|<omp\.h>|\bomp_\w+\s*\(", r"core/parallel\w*\.(h|cpp)"),
        ("Python", r"Python\.h|pybind11|numpy/", r"bindings/.*"),
        ("intrinsics", r"_mm\d*_\w+\s*\(|intrin\.h|arm_neon\.h|\bv(?:ld|st)1q?_\w+\s*\(", r"simd/.*"),
    ],
    ids=["OpenMP", "Python", "intrinsics"],
)
def test_one_room_for_each(what: str, pattern: str, home: str) -> None:
    found = {p.relative_to(CPP).as_posix() for p in sources(*ROOMS) if re.search(pattern, code_of(p))}
    assert found, f"{what} is nowhere: the pattern is out of date"
    assert not [name for name in found if not re.fullmatch(home, name)]


def test_headers_are_read_once() -> None:
    for path in sources(*ROOMS):
        if path.suffix == ".h":
            assert "#pragma once" in path.read_text(encoding="utf-8"), path


def test_no_fast_math_anywhere() -> None:
    """On a link line it sets flush-to-zero for the whole process."""
    fast = re.compile(
        r"(?<!no-)fast-?math|-Ofast|/fp:fast|unsafe-math|associative-math|reciprocal-math|finite-math|crtfastmath|-mdaz-ftz"
    )
    files = [
        ROOT / "CMakeLists.txt",
        ROOT / "pyproject.toml",
        *ROOT.glob("cmake/**/*"),
        *CPP.rglob("*.txt"),
        *sources(*ROOMS),
    ]
    files = [f for f in files if f.is_file()]
    assert ROOT / "CMakeLists.txt" in files
    for path in files:
        text = (
            re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
            if path.suffix == ".txt"
            else path.read_text(encoding="utf-8")
        )
        assert not fast.search(text), path


def test_contraction_is_written_and_not_hoped_for() -> None:
    assert "-ffp-contract=off" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


def test_sizes_are_not_int() -> None:
    """More than 2**31 elements is a test of its own; this finds the loop that would fail it."""
    loop = re.compile(r"for\s*\(\s*(?:unsigned|int|long|unsigned int|u?int32_t)\s+\w+\s*=[^;]*;([^;]*);")
    few = re.compile(r"<=?\s*(?:workers|threads|k[A-Z]\w*|\d+)\s*$|^\s*$")
    for path in sources("simd", "kernels", "core"):
        wrong = [match[0] for match in loop.finditer(code_of(path)) if not few.search(match[1])]
        assert not wrong, path
