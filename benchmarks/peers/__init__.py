"""The peers: other programs for the same jobs, each in a file that is imported only where its package is installed."""

from __future__ import annotations

import importlib
from importlib import metadata

from .calls import Peer

# The module here that needs a package, in the order of the columns.
MODULES = {
    "numpy": "numpy_peer",
    "torch": "torch_peer",
    "onednn-cpu-gomp": "onednn_peer",
    "jax": "jax_peer",
    "onnxruntime": "onnxruntime_peer",
}


def installed(threads: int, wanted: list[str]) -> tuple[list[Peer], dict[str, str], list[str]]:
    """Set up the wanted packages on some threads. Returns the peers, their versions, and which are not installed."""
    peers: list[Peer] = []
    versions: dict[str, str] = {}
    missing: list[str] = []
    for package in wanted:
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
            continue
        module = importlib.import_module(f"{__name__}.{MODULES[package]}")
        peers.append(module.make(threads))
        versions[peers[-1].name] = version
    return peers, versions, missing
