"""Statistics of a data set, item by item, in the order of the source."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sized
from contextlib import closing
from typing import Any, Literal, NamedTuple, cast

from .. import _core
from .._channel_stats import ChannelStats
from .._checks import as_int
from ._axes import Axis
from ._checkpoint import Checkpoint, Prefix
from ._images import MODES
from ._items import Gatherer, NanPolicy
from ._ordered import in_order
from ._parts import Outcome, Worker
from ._progress import Meter
from ._result import DatasetStatistics
from ._sources import Options, is_array, is_stream, parts_of, source_marks


def statistics(
    source: object,
    *,
    axis: Axis = "auto",
    workers: int | None = None,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    mode: Literal["grey", "RGB", "RGBA"] | None = None,
    dataset: str | None = None,
    nan_policy: NanPolicy = "propagate",
    extremes: bool = False,
) -> DatasetStatistics:
    """Return the statistics per channel of a data set, which may be larger than memory.

    Parameters
    ----------
    source : array, path, list of paths, or iterable of arrays
        An array, anything with ``__array__``, an image of Pillow, or an open array of h5py or zarr. A path, or a list
        of them, in order: an ``.npy`` or ``.npz`` file, an HDF5 file (``.h5``, ``.hdf5``, ``.hdf``), a zarr folder, a
        JPEG, PNG or TIFF image, a folder of such images with all its subfolders, also by symbolic links, each once, or
        a pattern with ``*``, ``?``, ``[]`` or ``**``; the last two are sorted by name. Or any iterable of arrays or
        images of Pillow, which may differ in size, but not in channels.
    axis : int, None or "auto", default "auto"
        Channel axis. "auto" is 1 for arrays, as everywhere in this library, and -1 for images, which are arrays of
        shape (height, width, C). It is an error for uint8 and uint16 arrays of 3 or 4 dimensions whose last extent is
        1, 3 or 4 and whose second one is not: these seem to be images with channels last. None takes all values as one
        channel.
    workers : int, optional
        Number of threads that read, decode and sum up; by default the number of CPUs that this process may use.
    progress : bool, default True
        Whether a bar is shown on a terminal after two seconds, if rich is installed.
    checkpoint : str or path-like, optional
        File that keeps the state of the run. It is written every few seconds, and at the end, also after an error; the
        same call goes on from there. It stays when the run is done, and then gives the result at once.
    on_error : {"raise", "skip"}, default "raise"
        What to do about a file or subfolder that cannot be read: raise an error that names it, or list it in the
        result.
    mode : {"grey", "RGB", "RGBA"}, optional
        What images are converted to, as Pillow does it. By default all must have the mode of the first one, which is
        one of these.
    dataset : str, optional
        Which array of an ``.npz``, an HDF5 file or a zarr group; it may be omitted where there is just one.
    nan_policy : {"propagate", "omit", "raise"}, default "propagate"
        What becomes of NaN, see `batchnorm.channel_stats`.
    extremes : bool, default False
        Whether minimum and maximum are kept, too, which takes a second look at the values.

    Returns
    -------
    DatasetStatistics
        ``.stats`` is the `ChannelStats` of all values.

    Raises
    ------
    TypeError
        `source` is none of these, an iterable gives something else (a tuple, a list, a dict, a path), an argument is of
        the wrong type, or the values are of a dtype without statistics.
    ValueError
        An argument has the wrong value; `axis` must be given for these arrays; an iterable gives none; a file is
        damaged, truncated, of another number of channels or mode; the checkpoint is damaged, or of another source, of
        files that have changed since, or of other options.
    OSError
        A file cannot be opened or decoded, or the checkpoint cannot be written.
    ImportError
        A package is missing that reads the file; the message tells the extra.

    Notes
    -----
    The source is cut into items: up to 32 MB of an ``.npy`` file, in windows of 8 MB, chunks of about 8 MB, a member
    of an ``.npz``, a few images, an array. Workers take them as they come, and their statistics are merged in the order
    of the source (formula of Chan, Golub & LeVeque, see `batchnorm.ChannelStats`). So the result has the same bits for
    any number of workers, and for a run that went on from a checkpoint. Memory stays below the number of workers times
    the largest item, plus 64 MB; an image counts as Pillow holds it, with 4 bytes per pixel for RGB. A file is never
    read or mapped whole. Results come on top: 40 bytes per channel, 56 of integers, in up to five copies for each
    worker and as many for the merge. That shows from some hundred thousand channels on.

    An iterable is consumed in the thread of the caller, and an array is done with before the next one is asked for, so
    it may be the same memory again. A checkpoint goes on if the iterable starts with the same items: they are drawn
    again, compared by shape, dtype and first values, and not summed up.

    A file is skipped whole or is an error: where a part of it has been counted when it fails, ``on_error="skip"``
    raises all the same. Values of the wrong dtype or number of channels are errors, too.

    Colors of 16 bits are read whole from PNG and TIFF, though Pillow keeps 8 of them. What Pillow misreads in a
    TIFF is an error: such colors in planes, grey values of 16 bits of which 0 is white, signed values. All pages of a
    TIFF count.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.datasets import statistics
    >>> rng = np.random.default_rng(0)
    >>> batches = (rng.integers(0, 256, (n, 8, 8, 3), np.uint8) for n in (20, 30))
    >>> result = statistics(batches, axis=-1, extremes=True)
    >>> result.items, result.stats.count.tolist(), result.min.tolist(), result.max.tolist()
    (2, [3200, 3200, 3200], [0.0, 0.0, 0.0], [255.0, 255.0, 255.0])
    """
    options = Options(
        axis=axis if axis is None or (isinstance(axis, str) and axis == "auto") else _core.check_axis_int(axis),
        mode=None if mode is None else _core.check_choice(mode, "mode", list(MODES)),
        dataset=_name("dataset", dataset),
        skip=_core.check_choice(on_error, "on_error", ["raise", "skip"]) == "skip",
    )
    threads = usable_cpus() if workers is None else as_int("workers", workers, 1)
    wanted = _core.check_flag(progress, "progress")
    policy = cast("NanPolicy", _core.check_choice(nan_policy, "nan_policy", ["propagate", "omit", "raise"]))
    extremes = _core.check_flag(extremes, "extremes")
    gatherer = Gatherer(policy, extremes, options.skip)
    prefix = Prefix(ChannelStats(extremes=extremes))
    how = {
        "axis": options.axis,
        "mode": options.mode,
        "dataset": options.dataset,
        "nan_policy": policy,
        "extremes": extremes,
    }
    if is_array(source) or is_stream(source):
        run = _over_arrays(source, options, gatherer, threads, marked=checkpoint is not None)
    else:
        run = _over_parts(source, options, gatherer, threads)
    file = None if checkpoint is None else Checkpoint(checkpoint, _require_marks(run), how)
    if file is not None:
        prefix = file.load(prefix)
        if prefix.skipped and not options.skip:
            raise ValueError(
                f"checkpoint: expected no skipped files with on_error='raise', got {len(prefix.skipped)}: "
                f"{prefix.skipped[0][0]!r} first"
            )
    with Meter(run.total, wanted=wanted) as meter, closing(run.outcomes(prefix)) as outcomes:
        try:
            for outcome in outcomes:
                prefix = prefix.and_next(outcome)
                meter.show(prefix.done)
                if file is not None:
                    file.perhaps_save(prefix)
        finally:
            if file is not None:
                file.save(prefix)
    return DatasetStatistics(prefix.stats, prefix.items, prefix.skipped)


class _Run(NamedTuple):
    """How a source becomes outcomes: what tells it from others, of how many items, from the end of a prefix on."""

    marks: Callable[[], list[Any] | None]
    total: int | None
    outcomes: Callable[[Prefix], Generator[Outcome, None, None]]


def _over_arrays(source: object, options: Options, gatherer: Gatherer, threads: int, *, marked: bool) -> _Run:
    """Take an array, or an iterable of them, in this thread: its memory may be another array's a moment later."""
    for name, value in (("mode", options.mode), ("dataset", options.dataset)):
        if value is not None:
            raise ValueError(f"{name}: expected None for arrays, got {value!r}")
    one = is_array(source)
    arrays = [source] if one else cast("Iterable[Any]", source)
    return _Run(
        lambda: None if one else ["iterable"],
        len(arrays) if isinstance(arrays, Sized) else None,
        lambda prefix: gatherer.of_stream(arrays, options.axis, threads, prefix, marked=marked),
    )


def _over_parts(source: object, options: Options, gatherer: Gatherer, threads: int) -> _Run:
    """Take what lies in files, in a pool of threads."""
    parts = parts_of(source, options)
    index = [(part, item) for part in parts for item in range(part.items)]

    def work(i: int, worker: Worker) -> Outcome:
        return gatherer.of_item(*index[i], worker)

    return _Run(
        lambda: source_marks(parts), len(index), lambda prefix: in_order(work, prefix.done, len(index), threads)
    )


def _require_marks(run: _Run) -> list[Any]:
    marks = run.marks()
    if marks is None:
        raise ValueError(
            "checkpoint: expected files or an iterable as the source, got an array, which nothing tells from another"
        )
    return marks


def _name(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name}: expected a str or None, got {type(value).__name__}")
    return value


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1
