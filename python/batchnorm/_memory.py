"""How much memory of outputs that are freed is kept for the next ones."""

from __future__ import annotations

from . import _core
from ._checks import as_int


def set_kept_memory(most: int | None) -> None:
    """Set how much memory of outputs that are freed is kept for the next ones.

    Parameters
    ----------
    most : int or None
        Bytes, >= 0; 0 gives all of it back to the system at once and keeps none. None is the default, a sixteenth of
        the machine's memory.

    Raises
    ------
    TypeError
        `most` is not an int.
    ValueError
        `most` is negative.

    Notes
    -----
    A system clears each page of new memory, which takes as long as normalizing it. An output of 32 MB or more that was
    made without ``out=`` is therefore kept when its array is gone, and the next output of its size lies there. The
    system may take kept memory back whenever it needs some, though it counts as used until then. Elsewhere than on
    Linux nothing is kept.

    Examples
    --------
    >>> import batchnorm as bn
    >>> bn.set_kept_memory(0)
    >>> bn.set_kept_memory(None)
    """
    _core.set_kept_bytes(None if most is None else as_int("most", most, 0))
