"""The object files of the instruction sets share nothing, and run nothing before main.

BATCHNORM_OBJECTS names a directory that holds them; otherwise they are built here, as CMake builds them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ISA_OBJECT = re.compile(r"batchnorm_kernels_(\w+)\.dir|(?:^|[/_.])(baseline|avx2|avx512|neon)\.(?:cpp\.)?o$")

pytestmark = pytest.mark.no_sanitizer  # instrumented objects register themselves before main


def missing_to_build() -> list[str]:
    compiler = os.environ.get("CXX", "c++").split()[0]
    programs = [name for name in ("cmake", compiler) if shutil.which(name) is None]
    sources = [] if (ROOT / "CMakeLists.txt").is_file() else [str(ROOT / "CMakeLists.txt")]
    return programs + sources


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(folder: Path) -> None:
    run("cmake", "-S", str(ROOT), "-B", str(folder), "-DBATCHNORM_KERNEL_TEST=ON")
    targets = re.findall(r"\bbatchnorm_kernels_\w+", run("cmake", "--build", str(folder), "--target", "help"))
    assert targets
    for target in sorted(set(targets)):
        run("cmake", "--build", str(folder), "--target", target)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The object files of each instruction set."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads ELF object files")
    for program in ("nm", "readelf"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing")
    given = os.environ.get("BATCHNORM_OBJECTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("objects")
    if not given:
        missing = missing_to_build()
        if missing:
            pytest.skip(f"BATCHNORM_OBJECTS is not set, and to build the objects there is no {', '.join(missing)}")
        build(folder)
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
