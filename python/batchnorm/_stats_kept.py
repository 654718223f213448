"""How channel statistics are kept: files, text, pickles, copies."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from ._moments import Moments, frozen
from ._stats_file import read_stats, read_stats_text, write_stats
from ._stats_json import to_json
from ._stats_values import StatsValues

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._stats_document import Held


class KeptStats(StatsValues):
    """Statistics per channel, that can be saved and copied."""

    __slots__ = ()

    def __init__(self, *, extremes: bool = False) -> None:
        self._extremes = extremes
        self._moments = None

    @classmethod
    def _of(cls, *arrays: Any) -> Self:
        """Make one that owns these arrays, the fields of `Moments` from the first on: unchecked, not copied."""
        return cls._holding(frozen(Moments(*arrays)))

    @classmethod
    def _holding(cls, held: Held) -> Self:
        if isinstance(held, bool):
            return cls(extremes=held)
        self = cls.__new__(cls)
        self._extremes, self._moments = held.minimum is not None, held
        return self

    @property
    def _held(self) -> Held:
        own = self._moments
        return self._extremes if own is None else own

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the statistics to a file.

        Parameters
        ----------
        path : str or path-like
            File to write, as JSON if it is named ``*.json``, else as ``.npz``; nothing is appended to the name. A file
            that is there is replaced, at once and whole, and keeps its permissions; a pipe or a device is written to.

        Raises
        ------
        OSError
            The file cannot be written. One that was there is as it was.

        Notes
        -----
        The file is a NumPy ``.npz`` with ``format``, ``version``, ``channels`` (-1 while that is unknown), ``count``,
        ``mean`` and ``m2``; where values have weights, with ``sum_weights``; where extremes are kept, with ``min`` and
        ``max``; of integers, with the exact sums ``total`` and ``squares`` (modulo 2**64). JSON has the same fields,
        see `to_json`. The numbers are kept exactly. What has no extremes is read by versions of this library that know
        none.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> stats = bn.channel_stats(np.array([[1.0], [3.0]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stats.save(os.path.join(folder, "stats.npz"))
        ...     bn.ChannelStats.load(os.path.join(folder, "stats.npz")) == stats
        True
        """
        write_stats(path, self._held)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read statistics that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            File to read. Its content tells whether it is JSON or ``.npz``, not its name.

        Returns
        -------
        ChannelStats

        Raises
        ------
        OSError
            The file cannot be opened.
        ValueError
            The file is damaged, was not written by `save`, or by a newer version of it.

        Notes
        -----
        Nothing in the file is run: pickled objects are refused.

        Examples
        --------
        >>> import os, tempfile
        >>> import batchnorm as bn
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bn.ChannelStats().save(os.path.join(folder, "stats.npz"))
        ...     bn.ChannelStats.load(os.path.join(folder, "stats.npz"))
        ChannelStats()
        """
        return cls._holding(read_stats(path))

    def to_json(self) -> str:
        """Return the statistics as JSON.

        Returns
        -------
        str
            One JSON object with the fields of `save`: ``format`` "batchnorm.ChannelStats", ``version``, ``channels``,
            and lists of numbers.

        Notes
        -----
        The numbers are kept exactly. JSON has no NaN and no infinity: they are the strings "NaN", "Infinity" and
        "-Infinity", so that any parser reads the text.

        Examples
        --------
        >>> import json
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> json.loads(bn.channel_stats(np.array([[0.1, np.nan], [0.1, 1.0]])).to_json())["mean"]
        [0.1, 'NaN']
        """
        return to_json(self._held)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the statistics that `to_json` wrote.

        Parameters
        ----------
        text : str
            JSON.

        Returns
        -------
        ChannelStats

        Raises
        ------
        TypeError
            `text` is not a str.
        ValueError
            The text is damaged, was not written by `to_json`, or by a newer version of it.

        Examples
        --------
        >>> import numpy as np
        >>> import batchnorm as bn
        >>> stats = bn.channel_stats(np.array([[1.0], [3.0]]))
        >>> bn.ChannelStats.from_json(stats.to_json()) == stats
        True
        """
        return cls._holding(read_stats_text(text))

    def __reduce__(self) -> tuple[Any, ...]:
        own = self._moments
        if own is None:
            return functools.partial(type(self), extremes=True) if self._extremes else type(self), ()
        arrays: tuple[Any, ...] = own.arrays
        while arrays[-1] is None:  # so that older versions read what they can
            arrays = arrays[:-1]
        return type(self)._of, arrays

    def __copy__(self) -> Self:
        return self._holding(self._held)

    def __deepcopy__(self, memo: object) -> Self:
        return self.__copy__()
