"""Schedules: of learning rates, by factors, so that they can be combined, and of batch renormalization's bounds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from .. import _core
from .._checks import as_int
from .._layer import BatchNorm
from ._checks import as_positive, as_rate, as_real
from ._state import Counted, Stateful
from .optimizers import Optimizer
from .roles import as_layers


def _scale(optimizer: Optimizer, factor: float, least: float = 0.0) -> None:
    for settings in optimizer.groups.values():
        # A rate that is below `least` already stays.
        settings["lr"] = max(settings["lr"] * factor, min(settings["lr"], least))


def _as_optimizer(value: object) -> Optimizer:
    if not isinstance(value, Optimizer):
        raise TypeError(f"optimizer: expected an Optimizer, got {type(value).__name__}")
    return value


def _as_factor(name: str, value: object) -> float:
    number = as_positive(name, value)
    if number > 1:
        raise ValueError(f"{name}: expected a number > 0 and <= 1, got {number}")
    return number


class _Factor(Counted):
    """A factor that depends on the number of steps alone."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = _as_optimizer(optimizer)
        self.steps = 0

    @abstractmethod
    def factor(self, steps: int) -> float:
        """Return what the base rate is multiplied by after so many steps."""

    def step(self) -> None:
        """Go on by one, and multiply the rate of every group by the change of the factor."""
        change = self.factor(self.steps + 1) / self.factor(self.steps)
        _scale(self._optimizer, change)
        self.steps += 1


class ExponentialLR(_Factor):
    """A rate that decays by a constant factor.

    Parameters
    ----------
    optimizer : Optimizer
        Its groups' rates are changed.
    decay : float
        Factor per step, > 0 and <= 1. Call `step` once per epoch.

    Attributes
    ----------
    decay : float
    steps : int
        Number of steps, the epoch.

    Raises
    ------
    TypeError, ValueError
        `optimizer` is none, or `decay` is not in its range.

    Notes
    -----
    After t steps ``lr = base * decay**t``. The optimizer's own state holds the rate, so that loading both restores
    both.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import SGD, ExponentialLR
    >>> optimizer = SGD({"w": np.zeros(1)}, lr=1.0)
    >>> schedule = ExponentialLR(optimizer, decay=0.5)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> optimizer.groups["all"]["lr"]
    0.125
    """

    def __init__(self, optimizer: Optimizer, decay: float) -> None:
        super().__init__(optimizer)
        self.decay = _as_factor("decay", decay)

    def factor(self, steps: int) -> float:
        """Return ``decay**steps``."""
        return self.decay**steps

    def step(self) -> None:
        """Go on by one, and multiply the rate of every group by `decay`."""
        _scale(self._optimizer, self.decay)  # a quotient of powers would end at 0 / 0
        self.steps += 1


class LinearWarmup(_Factor):
    """A rate that grows linearly from a part of itself to all of it.

    Parameters
    ----------
    optimizer : Optimizer
        Its groups' rates are changed, to `start` times what they are at once.
    length : int
        Number of steps until the rate is whole, >= 1.
    start : float, optional
        Share of the rate at first, > 0 and <= 1; ``1 / (length + 1)`` if omitted.

    Attributes
    ----------
    length, start
    steps : int
        Number of steps.

    Raises
    ------
    TypeError, ValueError
        `optimizer` is none, or a number is not in its range.

    Notes
    -----
    After t steps ``lr = base * (start + (1 - start) * min(t / length, 1))`` (Goyal et al., Accurate, large minibatch
    SGD, 2017, section 2.2). Other schedules may run meanwhile.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import SGD, LinearWarmup
    >>> optimizer = SGD({"w": np.zeros(1)}, lr=1.0)
    >>> schedule, rates = LinearWarmup(optimizer, 3), []
    >>> for _ in range(5):
    ...     rates.append(round(optimizer.groups["all"]["lr"], 6))
    ...     schedule.step()
    >>> rates
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(self, optimizer: Optimizer, length: int, start: float | None = None) -> None:
        super().__init__(optimizer)
        self.length = as_int("length", length, 1)
        self.start = 1 / (self.length + 1) if start is None else _as_factor("start", start)
        _scale(optimizer, self.factor(0))

    def factor(self, steps: int) -> float:
        """Return ``start + (1 - start) * min(steps / length, 1)``."""
        return self.start + (1 - self.start) * min(steps / self.length, 1.0)


class ReduceOnPlateau(Stateful):
    """A rate that is reduced when a metric stops getting better.

    Parameters
    ----------
    optimizer : Optimizer
        Its groups' rates are changed.
    mode : {"min", "max"}, default "min"
        Whether a smaller or a larger metric is better.
    factor : float, default 0.1
        What rates are multiplied by, > 0 and <= 1.
    patience : int, default 10
        Number of steps without a better metric that are let pass, >= 0.
    threshold : float, default 1e-4
        A metric is better by this share of the best one, or not at all; >= 0.
    cooldown : int, default 0
        Number of steps after a reduction in which nothing is counted, >= 0.
    min_lr : float, default 0.0
        No rate is reduced below it.

    Attributes
    ----------
    best : float
        Best metric so far.
    waited : int
        Steps since then, or since the last reduction.
    cooling : int
        Steps of the cooldown that are left.

    Raises
    ------
    TypeError, ValueError
        `optimizer` is none, or an option is not in its range.

    Notes
    -----
    As PyTorch's, with its relative threshold. A NaN is never better.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import SGD, ReduceOnPlateau
    >>> optimizer = SGD({"w": np.zeros(1)}, lr=1.0)
    >>> schedule = ReduceOnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in [3.0, 2.0, 2.0, 2.0]:
    ...     schedule.step(loss)
    >>> optimizer.groups["all"]["lr"]
    0.5
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self._optimizer = _as_optimizer(optimizer)
        self.mode: Literal["min", "max"] = _core.check_choice(mode, "mode", ["min", "max"])
        self.factor = _as_factor("factor", factor)
        self.patience, self.cooldown = as_int("patience", patience, 0), as_int("cooldown", cooldown, 0)
        self.threshold, self.min_lr = as_rate("threshold", threshold), as_rate("min_lr", min_lr)
        self.best = float("inf") if self.mode == "min" else float("-inf")
        self.waited = self.cooling = 0

    def step(self, metric: float) -> None:
        """Take a metric in, once per epoch, and reduce the rates where it is time.

        Parameters
        ----------
        metric : float
            Validation loss, or accuracy with ``mode="max"``.

        Raises
        ------
        TypeError
            `metric` is not a real number.
        """
        value = as_real("metric", metric)
        if value < self.best * (1 - self.threshold) if self.mode == "min" else value > self.best * (1 + self.threshold):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.waited = 0
        if self.waited > self.patience:
            _scale(self._optimizer, self.factor, self.min_lr)
            self.cooling, self.waited = self.cooldown, 0

    def _get_state(self) -> dict[str, np.ndarray[Any, Any]]:
        return {name: np.asarray(getattr(self, name)) for name in ("best", "waited", "cooling")}

    def _check_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        for name in ("waited", "cooling"):
            if state[name] < 0:
                raise ValueError(f"{name}: expected an integer >= 0, got {state[name]}")

    def _set_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        for name in ("best", "waited", "cooling"):
            setattr(self, name, state[name].item())


class RenormWarmup(Counted):
    """Bounds of batch renormalization that widen: at first the layers are plain batch normalization.

    Parameters
    ----------
    layers : mapping of str to BatchNorm
        Their `renorm` is set, at once and at each step.
    renorm : (r_max, d_max), default (3, 5)
        The bounds in the end; r_max >= 1 and d_max >= 0.
    start : int, default 5000
        Number of steps with (1, 0).
    r_end, d_end : int, default 40000 and 25000
        The steps at which r_max and d_max are reached, linearly; greater than `start`.

    Attributes
    ----------
    renorm, start, r_end, d_end
    steps : int
        Number of steps.

    Raises
    ------
    TypeError, ValueError
        `layers` is something else, a layer has no running statistics, or a number is not in its range.

    Notes
    -----
    The defaults are those of Ioffe, Batch Renormalization, 2017, section 4.

    Examples
    --------
    >>> import batchnorm as bn
    >>> from batchnorm.training import RenormWarmup
    >>> layer = bn.BatchNorm(1)
    >>> schedule, bounds = RenormWarmup({"bn": layer}, (3.0, 4.0), start=1, r_end=3, d_end=2), [layer.renorm]
    >>> for _ in range(3):
    ...     schedule.step()
    ...     bounds.append(layer.renorm)
    >>> bounds
    [(1.0, 0.0), (1.0, 0.0), (2.0, 4.0), (3.0, 4.0)]
    """

    def __init__(
        self,
        layers: Mapping[str, BatchNorm],
        renorm: tuple[float, float] = (3.0, 5.0),
        *,
        start: int = 5000,
        r_end: int = 40000,
        d_end: int = 25000,
    ) -> None:
        self._layers = as_layers(layers)
        for name, layer in self._layers.items():
            if layer.running_mean is None:
                raise ValueError(f"layers: expected running statistics in each, got none in {name!r}")
        bounds = _core.check_renorm(renorm)
        if bounds is None:
            raise TypeError("renorm: expected (r_max, d_max), got None")
        self.renorm = bounds
        self.start, self.r_end, self.d_end = as_int("start", start, 0), as_int("r_end", r_end), as_int("d_end", d_end)
        for end, value in (("r_end", self.r_end), ("d_end", self.d_end)):
            if value <= self.start:
                raise ValueError(f"{end}: expected an int > start, got {value}")
        self.steps = 0
        self._apply()

    def bounds(self, steps: int) -> tuple[float, float]:
        """Return (r_max, d_max) after so many steps."""
        r, d = (min(max(steps - self.start, 0) / (end - self.start), 1.0) for end in (self.r_end, self.d_end))
        return 1 + (self.renorm[0] - 1) * r, self.renorm[1] * d

    def step(self) -> None:
        """Go on by one, and set the bounds of every layer."""
        self.steps += 1
        self._apply()

    def _apply(self) -> None:
        for layer in self._layers.values():
            layer.renorm = self.bounds(self.steps)
