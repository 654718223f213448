"""How statistics are written to what is there already: other files, pipes, devices."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

import batchnorm as bn
from batchnorm.datasets import Normalizer


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions of POSIX")
@pytest.mark.parametrize("name", ["x.npz", "x.json"])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path, name: str) -> None:
    for mode in (0o600, 0o640, 0o444):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
        bn.ChannelStats().save(tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
        (tmp_path / name).unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("name", ["x.npz", "x.json"])
def test_a_pipe_is_written_to(tmp_path: Path, name: str) -> None:
    stats, pipe = bn.channel_stats(np.array([[1.0], [3.0]])), tmp_path / name
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # neither waits for the other: a pipe holds as much
    stats.save(pipe)
    (tmp_path / "copy").write_bytes(os.read(reader, 65536))
    os.close(reader)
    assert pipe.is_fifo() and bn.ChannelStats.load(tmp_path / "copy") == stats


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs terminals of POSIX")
def test_a_device_is_written_to(tmp_path: Path) -> None:
    """A terminal of our own: an error here must not take a device from the machine."""
    master, terminal = os.openpty()
    before = os.fstat(terminal)
    (tmp_path / "x.json").symlink_to(os.ttyname(terminal))
    bn.ChannelStats().save(tmp_path / "x.json")
    assert os.path.samestat((tmp_path / "x.json").stat(), before)
    assert os.read(master, 65536).decode().strip() == bn.ChannelStats().to_json()
    os.close(terminal)
    os.close(master)


@pytest.mark.parametrize(
    "made", [bn.channel_stats(np.ones((4, 3))), Normalizer(mean=[1.0], std=[2.0])], ids=lambda made: type(made).__name__
)
def test_the_content_tells_npz_from_json(tmp_path: Path, made: bn.ChannelStats | Normalizer) -> None:
    """Also of JSON that an editor put a byte-order mark before."""
    for name in ("x.npz", "x.json"):
        made.save(tmp_path / name)
        (tmp_path / "renamed").write_bytes((tmp_path / name).read_bytes())
        assert type(made).load(tmp_path / "renamed") == made
    (tmp_path / "x.json").write_bytes(codecs.BOM_UTF8 + (tmp_path / "x.json").read_bytes())
    assert type(made).load(tmp_path / "x.json") == made
    (tmp_path / "x.json").write_bytes(codecs.BOM_UTF8 + b"text")
    with pytest.raises(ValueError, match=r"x\.json: expected a .* file, got a file that is neither \.npz nor JSON"):
        type(made).load(tmp_path / "x.json")
