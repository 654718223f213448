"""Parameters by role, those of batch normalization apart from the rest, and phases that train the one or the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._checks import as_int
from .._layer import BatchNorm
from ._checks import FloatArray, as_flag, as_parameters
from ._state import Counted
from .optimizers import Optimizer


def as_layers(value: object) -> dict[str, BatchNorm]:
    """Return a mapping of names to layers as a dict."""
    if not isinstance(value, Mapping):
        raise TypeError(f"layers: expected a mapping of names to BatchNorm, got {type(value).__name__}")
    for name, layer in value.items():
        if not isinstance(name, str) or not isinstance(layer, BatchNorm):
            raise TypeError(f"layers: expected names and BatchNorm, got {name!r} and {type(layer).__name__}")
    return dict(value)


def parameters_of(layers: Mapping[str, BatchNorm]) -> dict[str, FloatArray]:
    """Return the parameters of layers under the layers' names; the arrays are live.

    Parameters
    ----------
    layers : mapping of str to BatchNorm
        Layers by name.

    Returns
    -------
    dict of str to ndarray
        "name.weight" and "name.bias" of each layer.

    Raises
    ------
    TypeError
        `layers` is something else.

    Examples
    --------
    >>> import batchnorm as bn
    >>> from batchnorm.training import parameters_of
    >>> list(parameters_of({"bn1": bn.BatchNorm(3), "bn2": bn.BatchNorm(4, bias=False)}))
    ['bn1.weight', 'bn1.bias', 'bn2.weight']
    """
    return {f"{name}.{key}": a for name, layer in as_layers(layers).items() for key, a in layer.parameters().items()}


def gradients_of(layers: Mapping[str, BatchNorm]) -> dict[str, FloatArray]:
    """Return the gradients of layers under the names of `parameters_of`; the arrays are live.

    Parameters
    ----------
    layers : mapping of str to BatchNorm
        Layers by name.

    Returns
    -------
    dict of str to ndarray
        "name.weight" and "name.bias" of each layer.

    Raises
    ------
    TypeError
        `layers` is something else.

    Examples
    --------
    >>> import batchnorm as bn
    >>> from batchnorm.training import gradients_of
    >>> gradients_of({"bn": bn.BatchNorm(2)})["bn.bias"].tolist()
    [0.0, 0.0]
    """
    return {f"{name}.{key}": a for name, layer in as_layers(layers).items() for key, a in layer.gradients().items()}


def by_role(parameters: Mapping[str, FloatArray], layers: Iterable[str], **bn: Any) -> dict[str, dict[str, Any]]:
    """Split parameters into those of batch normalization and the rest, as groups for an optimizer.

    Parameters
    ----------
    parameters : mapping of str to ndarray, float32 or float64
        All parameters by name.
    layers : iterable of str
        Names of the batch-norm layers, for instance the mapping of them: what is called "name.weight" or "name.bias" is
        theirs.
    **bn
        Settings of the group "bn", for instance ``lr=0.01``; ``weight_decay=0.0`` unless given.

    Returns
    -------
    dict
        Groups "bn" and "rest".

    Raises
    ------
    TypeError
        `parameters` is something else.
    ValueError
        A layer has no parameter there.

    Notes
    -----
    Decay pulls a weight of batch normalization, a scale and no direction, towards a dead channel; and a weight before a
    normalization only acts through its direction, so decay there changes its effective rate (van Laarhoven, L2
    regularization versus batch and weight normalization, 2017).

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import SGD, by_role
    >>> parameters = {"fc.weight": np.ones((2, 2)), "bn.weight": np.ones(2), "bn.bias": np.zeros(2)}
    >>> optimizer = SGD(by_role(parameters, ["bn"], lr=0.01), lr=0.1, weight_decay=1e-4)
    >>> {name: (list(g["parameters"]), g["lr"], g["weight_decay"]) for name, g in optimizer.groups.items()}
    {'bn': (['bn.weight', 'bn.bias'], 0.01, 0.0), 'rest': (['fc.weight'], 0.1, 0.0001)}
    """
    known = as_parameters("parameters", parameters)
    if isinstance(layers, str):
        raise TypeError("layers: expected several names, got one str")
    own: dict[str, FloatArray] = {}
    for layer in layers:
        found = {name: known[name] for name in (f"{layer}.weight", f"{layer}.bias") if name in known}
        if not found:
            raise ValueError(f"layers: expected names with parameters among {list(known)}, got {layer!r}")
        own |= found
    rest = {name: array for name, array in known.items() if name not in own}
    return {"bn": {"parameters": own, "weight_decay": 0.0, **bn}, "rest": {"parameters": rest}}


class Phases(Counted):
    """Phases of training, each of which trains some groups of an optimizer and freezes all others.

    Parameters
    ----------
    optimizer : Optimizer
        Its groups are frozen and unfrozen; those of the first phase at once.
    phases : sequence of (sequence of str, int)
        Names of the groups that are trained, and the number of steps (epochs) of the phase, >= 1.
    repeat : bool, default False
        Whether the first phase follows the last. Otherwise the last goes on.

    Attributes
    ----------
    steps : int
        Number of steps so far.
    current : tuple of str
        Groups that are trained now.

    Raises
    ------
    TypeError, ValueError
        `optimizer` is none, a group is unknown, or a length is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import SGD, Phases, by_role
    >>> parameters = {"fc.weight": np.ones((2, 2)), "bn.weight": np.ones(2), "bn.bias": np.zeros(2)}
    >>> optimizer = SGD(by_role(parameters, ["bn"]), lr=0.1)
    >>> phases, seen = Phases(optimizer, [(["rest"], 2), (["bn"], 1)], repeat=True), []
    >>> for epoch in range(5):
    ...     seen.append(*phases.current)
    ...     phases.step()
    >>> seen
    ['rest', 'rest', 'bn', 'rest', 'rest']
    """

    def __init__(
        self, optimizer: Optimizer, phases: Sequence[tuple[Sequence[str], int]], *, repeat: bool = False
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: expected an Optimizer, got {type(optimizer).__name__}")
        checked: list[tuple[tuple[str, ...], int]] = []
        for phase in phases:
            if not isinstance(phase, Sequence) or len(phase) != 2 or isinstance(phase[0], str):
                raise TypeError(f"phases: expected pairs of a sequence of groups and a length, got {phase!r}")
            groups, length = phase
            unknown = [group for group in groups if group not in optimizer.groups]
            if unknown:
                raise ValueError(f"phases: expected groups of {list(optimizer.groups)}, got {unknown}")
            checked.append((tuple(groups), as_int("phases", length, 1)))
        if not checked:
            raise ValueError("phases: expected at least one, got none")
        self._optimizer, self._phases, self._repeat = optimizer, checked, as_flag("repeat", repeat)
        self.steps = 0
        self._apply()

    @property
    def current(self) -> tuple[str, ...]:
        """Groups that are trained now."""
        at = self.steps
        if self._repeat:
            at %= sum(length for _, length in self._phases)
        for groups, length in self._phases:
            if at < length:
                return groups
            at -= length
        return self._phases[-1][0]

    def _apply(self) -> None:
        self._optimizer.train_only(*self.current)

    def step(self) -> None:
        """Go on by one step, once per epoch, to the next phase where it is time."""
        self.steps += 1
        self._apply()
