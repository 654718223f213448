"""The object files of the instruction sets share nothing, and run nothing before main.

BATCHNORM_OBJECTS names a directory that holds them; otherwise they are built here, as CMake builds them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from building import run

ISA_OBJECT = re.compile(r"batchnorm_kernels_(\w+)\.dir|(?:^|[/_.])(baseline|avx2|avx512|neon)\.(?:cpp\.)?o$")

pytestmark = pytest.mark.no_sanitizer  # instrumented objects register themselves before main


@pytest.fixture(scope="module")
def objects(request: pytest.FixtureRequest) -> dict[str, list[Path]]:
    """The object files of each instruction set."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads ELF object files")
    for program in ("nm", "readelf"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing")
    given = os.environ.get("BATCHNORM_OBJECTS")
    folder = Path(given) if given else request.getfixturevalue("kernel_build")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.o")):
        match = ISA_OBJECT.search(path.as_posix())
        if match:
            found.setdefault(match[1] or match[2], []).append(path)
    assert found, f"no object file of an instruction set in {folder}"
    return found


def symbols(path: Path, *options: str) -> list[tuple[str, str]]:
    """(type, name)"""
    return [
        (line.split()[-2], line.split()[-1]) for line in run("nm", *options, str(path)).splitlines() if line.strip()
    ]


def every(objects: dict[str, list[Path]]) -> list[Path]:
    return [path for paths in objects.values() for path in paths]


def test_every_instruction_set_is_there(objects: dict[str, list[Path]]) -> None:
    from batchnorm import _core

    assert set(_core.config()["isas_built"]) == set(objects)


def test_no_symbol_is_weak(objects: dict[str, list[Path]]) -> None:
    """Of a weak symbol the linker keeps one copy, whichever instruction set it was compiled for."""
    for path in every(objects):
        assert symbols(path)
        assert not [name for kind, name in symbols(path) if kind in "wWvVuC"], path


def test_nothing_runs_before_main(objects: dict[str, list[Path]]) -> None:
    for path in every(objects):
        sections = re.findall(r"\]\s+(\.\S+)", run("readelf", "-SW", str(path)))
        assert ".text" in " ".join(sections)
        assert not [name for name in sections if re.match(r"\.(init_array|ctors|preinit_array|init)\b", name)], path


def test_global_names_belong_to_one_instruction_set(objects: dict[str, list[Path]]) -> None:
    owner: dict[str, str] = {}
    for isa, paths in objects.items():
        for path in paths:
            for _, name in symbols(path, "--defined-only", "--extern-only"):
                assert isa in name, f"{path}: {name}"
                assert owner.setdefault(name, isa) == isa, f"{name} is in {owner[name]} and {isa}"
    assert set(owner.values()) == set(objects)


def test_kernels_call_nothing(objects: dict[str, list[Path]]) -> None:
    """They are leaves: no allocation, no exception, no library but what a compiler makes of a copy."""
    allowed = {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
    for path in every(objects):
        assert {name for _, name in symbols(path, "--undefined-only")} <= allowed, path
