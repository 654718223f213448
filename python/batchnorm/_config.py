"""What this build is, and what it found on this machine."""

from __future__ import annotations

from . import _core
from ._threads import get_num_threads


def show_config() -> None:
    """Print version, compiler, instruction sets built, found and used, OpenMP, and the number of threads.

    Notes
    -----
    ``BATCHNORM_ISA=baseline|avx2|avx512|neon`` in the environment forces an instruction set; it is read once.

    Examples
    --------
    >>> import batchnorm as bn
    >>> bn.show_config()  # doctest: +ELLIPSIS
    batchnorm ...
    """
    config = _core.config()
    rows = {
        "batchnorm": config["version"],
        "compiler": config["compiler"],
        "ISAs built": " ".join(config["isas_built"]),
        "ISAs found": " ".join(config["isas_found"]),
        "ISA used": config["isa"],
        "OpenMP": config["openmp"] or "none: built without OpenMP, calls are serial",
        "threads": get_num_threads(),
    }
    for name, value in rows.items():
        print(f"{name:<10} {value}")
