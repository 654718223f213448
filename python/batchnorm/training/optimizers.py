"""Optimizers: they change named arrays in place, group by group, each group with its own settings."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from ._checks import FloatArray, as_flag, as_fraction, as_parameters, as_rate, fitting, require_keys
from ._state import Stateful


class Optimizer(Stateful, ABC):
    """What the optimizers share: groups, the checks before a step, and the state.

    Parameters
    ----------
    parameters : mapping
        Names to float32 or float64 arrays, which are changed in place; or names of groups to their settings, among them
        "parameters", as `by_role` gives. What a group doesn't set is the optimizer's.
    lr : float
        Learning rate, >= 0.

    Attributes
    ----------
    groups : dict of str to dict
        Settings of each group by its name, "all" where no groups were given: "parameters", "frozen" and those of the
        optimizer. Change them as you like; each step checks them.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a writeable float array, two groups share a name of a parameter, or a setting is unknown or
        wrong.
    """

    # Name of a setting to what checks it; and the arrays of each parameter's state.
    _settings: ClassVar[dict[str, Callable[[str, object], Any]]]
    _slots: ClassVar[tuple[str, ...]]
    _common: ClassVar[dict[str, Callable[[str, object], Any]]] = {"lr": as_rate, "frozen": as_flag}

    groups: dict[str, dict[str, Any]]

    def __init__(self, parameters: Mapping[str, Any], **defaults: Any) -> None:
        if not isinstance(parameters, Mapping):
            raise TypeError(f"parameters: expected a mapping of names to arrays, got {type(parameters).__name__}")
        if not any(isinstance(value, Mapping) for value in parameters.values()):
            parameters = {"all": {"parameters": parameters}}
        self.groups = {}
        self._state: dict[str, dict[str, FloatArray]] = {}
        self._steps: dict[str, int] = {}
        for group, given in parameters.items():
            if not isinstance(given, Mapping):
                raise TypeError(f"parameters[{group!r}]: expected settings of a group, got {type(given).__name__}")
            settings = {"frozen": False, **defaults, **given}
            settings["parameters"] = as_parameters(f"parameters of {group!r}", settings.get("parameters"))
            require_keys(f"group {group!r}", settings, ("parameters", *self._common, *self._settings))
            self.groups[group] = settings
            settings.update(self._checked(group))
            for name, parameter in settings["parameters"].items():
                if name in self._state:
                    raise ValueError(f"parameters: expected each name in one group, got {name!r} in two")
                self._state[name] = {slot: np.zeros_like(parameter) for slot in self._slots}
                self._steps[name] = 0

    def _checked(self, group: str) -> dict[str, Any]:
        """Return the settings of a group but for its parameters, after their checks."""
        if group not in self.groups:
            raise ValueError(f"group: expected one of {list(self.groups)}, got {group!r}")
        given = self.groups[group]
        checks = {**self._common, **self._settings}
        require_keys(f"group {group!r}", given, ("parameters", *checks))
        return {name: check(f"{name} of group {group!r}", given[name]) for name, check in checks.items()}

    def step(self, gradients: Mapping[str, Any]) -> None:
        """Change the parameters once, in place.

        Parameters
        ----------
        gradients : mapping of str to array_like
            A gradient of the shape of its parameter for each parameter that isn't frozen; those of frozen ones are
            ignored.

        Raises
        ------
        TypeError, ValueError
            A gradient is missing, unknown or of another shape, a setting is wrong, or a parameter is read-only. Nothing
            has changed then.
        """
        settings = {group: self._checked(group) for group in self.groups}
        # Somebody may have put other arrays into a group.
        known = as_parameters("parameters", {n: a for g in self.groups.values() for n, a in g["parameters"].items()})
        fitting("parameters", known, {name: next(iter(slots.values())) for name, slots in self._state.items()})
        frozen = {
            name for group, given in self.groups.items() if settings[group]["frozen"] for name in given["parameters"]
        }
        fitted = fitting("gradients", gradients, known, optional=frozen)
        for group, given in self.groups.items():
            if settings[group]["frozen"]:
                continue
            for name, parameter in given["parameters"].items():
                self._steps[name] += 1
                self._update(parameter, fitted[name], self._state[name], self._steps[name], settings[group])

    @abstractmethod
    def _update(
        self, parameter: FloatArray, gradient: FloatArray, state: dict[str, FloatArray], t: int, s: dict[str, Any]
    ) -> None:
        """Change one parameter and its state; t counts its steps from 1."""

    def freeze(self, *groups: str) -> None:
        """Leave the parameters of these groups as they are, until `unfreeze`.

        Parameters
        ----------
        *groups : str
            Names of groups.

        Raises
        ------
        ValueError
            A name is unknown; nothing has changed then.
        """
        self._set_frozen(groups, True)

    def unfreeze(self, *groups: str) -> None:
        """Train the parameters of these groups again.

        Parameters
        ----------
        *groups : str
            Names of groups.

        Raises
        ------
        ValueError
            A name is unknown; nothing has changed then.
        """
        self._set_frozen(groups, False)

    def train_only(self, *groups: str) -> None:
        """Train these groups and freeze all others.

        Parameters
        ----------
        *groups : str
            Names of groups.

        Raises
        ------
        ValueError
            A name is unknown; nothing has changed then.
        """
        self._set_frozen(groups, False)
        self._set_frozen([group for group in self.groups if group not in groups], True)

    def _set_frozen(self, groups: Any, frozen: bool) -> None:
        unknown = [group for group in groups if group not in self.groups]
        if unknown:
            raise ValueError(f"groups: expected some of {list(self.groups)}, got {unknown}")
        for group in groups:
            self.groups[group]["frozen"] = frozen

    def _get_state(self) -> dict[str, np.ndarray[Any, Any]]:
        state: dict[str, np.ndarray[Any, Any]] = {}
        for group in self.groups:
            state |= {f"groups/{group}/{name}": np.asarray(value) for name, value in self._checked(group).items()}
        for name, slots in self._state.items():
            state[f"parameters/{name}/step"] = np.asarray(self._steps[name])
            state |= {f"parameters/{name}/{slot}": array for slot, array in slots.items()}
        return state

    def _check_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        for group in self.groups:
            for name, check in {**self._common, **self._settings}.items():
                check(f"groups/{group}/{name}", state[f"groups/{group}/{name}"].item())
        for name in self._steps:
            steps = state[f"parameters/{name}/step"].item()
            if steps < 0:
                raise ValueError(f"parameters/{name}/step: expected an integer >= 0, got {steps}")

    def _set_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        for group, settings in self.groups.items():
            for name in (*self._common, *self._settings):
                settings[name] = state[f"groups/{group}/{name}"].item()
        for name, slots in self._state.items():
            self._steps[name] = state[f"parameters/{name}/step"].item()
            for slot, array in slots.items():
                array[...] = state[f"parameters/{name}/{slot}"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum.

    Parameters
    ----------
    parameters : mapping
        Names to arrays, or names of groups to their settings: see `Optimizer`.
    lr : float
        Learning rate, >= 0.
    momentum : float, default 0.0
        Share of the last step's velocity that is kept, 0 <= momentum < 1.
    nesterov : bool, default False
        Whether to look ahead along the velocity.
    weight_decay : float, default 0.0
        Strength of the L2 penalty ``weight_decay / 2 * sum(parameter**2)``, >= 0.

    Raises
    ------
    TypeError, ValueError
        See `Optimizer`.

    Notes
    -----
    Sutskever et al., On the importance of initialization and momentum in deep learning, 2013, in PyTorch's form, where
    the rate is outside of the velocity::

        g = gradient + weight_decay * parameter
        v = momentum * v + g
        parameter -= lr * (g + momentum * v if nesterov else v)

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import SGD
    >>> parameters = {"w": np.array([1.0, 2.0])}
    >>> SGD(parameters, lr=0.1).step({"w": np.array([1.0, -1.0])})
    >>> parameters["w"].tolist()
    [0.9, 2.1]
    """

    _settings: ClassVar = {"momentum": as_fraction, "nesterov": as_flag, "weight_decay": as_rate}
    _slots = ("velocity",)

    def __init__(
        self,
        parameters: Mapping[str, Any],
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def _update(
        self, parameter: FloatArray, gradient: FloatArray, state: dict[str, FloatArray], t: int, s: dict[str, Any]
    ) -> None:
        if s["weight_decay"]:
            gradient = gradient + s["weight_decay"] * parameter
        if s["momentum"]:
            velocity = state["velocity"]
            velocity *= s["momentum"]
            velocity += gradient
            gradient = gradient + s["momentum"] * velocity if s["nesterov"] else velocity
        parameter -= s["lr"] * gradient


class Adam(Optimizer):
    """Adam: steps of a size that the gradient's own scale doesn't change.

    Parameters
    ----------
    parameters : mapping
        Names to arrays, or names of groups to their settings: see `Optimizer`.
    lr : float, default 1e-3
        Learning rate, >= 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the averages of the gradient and of its square, 0 <= beta < 1.
    eps : float, default 1e-8
        Added to the root of the second average, >= 0.
    weight_decay : float, default 0.0
        Strength of the L2 penalty ``weight_decay / 2 * sum(parameter**2)``, >= 0. `AdamW` keeps it out of the averages.

    Raises
    ------
    TypeError, ValueError
        See `Optimizer`.

    Notes
    -----
    Kingma & Ba, Adam: a method for stochastic optimization, 2015, Algorithm 1, for step t = 1, 2, ...::

        g = gradient + weight_decay * parameter
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        parameter -= lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import Adam
    >>> parameters = {"w": np.array([1.0, 2.0])}
    >>> Adam(parameters, lr=0.5).step({"w": np.array([100.0, -0.01])})
    >>> parameters["w"].round(3).tolist()
    [0.5, 2.5]
    """

    _settings: ClassVar = {"beta1": as_fraction, "beta2": as_fraction, "eps": as_rate, "weight_decay": as_rate}
    _slots = ("mean", "square")

    def __init__(
        self,
        parameters: Mapping[str, Any],
        lr: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)

    def _decay(self, parameter: FloatArray, gradient: FloatArray, s: dict[str, Any]) -> FloatArray:
        """Return the gradient to go on with; may change the parameter."""
        return gradient + s["weight_decay"] * parameter if s["weight_decay"] else gradient

    def _update(
        self, parameter: FloatArray, gradient: FloatArray, state: dict[str, FloatArray], t: int, s: dict[str, Any]
    ) -> None:
        gradient = self._decay(parameter, gradient, s)
        mean, square = state["mean"], state["square"]
        mean *= s["beta1"]
        mean += (1 - s["beta1"]) * gradient
        square *= s["beta2"]
        square += (1 - s["beta2"]) * gradient * gradient
        root = np.sqrt(square)
        root /= math.sqrt(1 - s["beta2"] ** t)
        root += s["eps"]
        parameter -= s["lr"] / (1 - s["beta1"] ** t) * (mean / root)


class AdamW(Adam):
    """Adam with decoupled weight decay.

    Parameters
    ----------
    parameters : mapping
        Names to arrays, or names of groups to their settings: see `Optimizer`.
    lr, beta1, beta2, eps
        As those of `Adam`.
    weight_decay : float, default 0.01
        Share ``lr * weight_decay`` of each parameter that a step takes away, >= 0.

    Raises
    ------
    TypeError, ValueError
        See `Optimizer`.

    Notes
    -----
    Loshchilov & Hutter, Decoupled weight decay regularization, 2019, Algorithm 2, with the schedule in `lr`: first
    ``parameter *= 1 - lr * weight_decay``, then Adam's step without a penalty.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import AdamW
    >>> parameters = {"w": np.array([1.0])}
    >>> AdamW(parameters, lr=0.1, weight_decay=0.5).step({"w": np.array([0.0])})
    >>> parameters["w"].tolist()
    [0.95]
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        lr: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)

    def _decay(self, parameter: FloatArray, gradient: FloatArray, s: dict[str, Any]) -> FloatArray:
        parameter *= 1 - s["lr"] * s["weight_decay"]
        return gradient


class RMSprop(Optimizer):
    """RMSprop: the gradient over the root of its running square.

    Parameters
    ----------
    parameters : mapping
        Names to arrays, or names of groups to their settings: see `Optimizer`.
    lr : float, default 1e-2
        Learning rate, >= 0.
    alpha : float, default 0.99
        Decay of the average of the gradient's square, 0 <= alpha < 1.
    eps : float, default 1e-8
        Added to the root, >= 0.
    momentum : float, default 0.0
        Share of the last step's velocity that is kept, 0 <= momentum < 1.
    weight_decay : float, default 0.0
        Strength of the L2 penalty ``weight_decay / 2 * sum(parameter**2)``, >= 0.

    Raises
    ------
    TypeError, ValueError
        See `Optimizer`.

    Notes
    -----
    Tieleman & Hinton, Neural networks for machine learning, lecture 6.5, 2012, in PyTorch's form::

        g = gradient + weight_decay * parameter
        s = alpha * s + (1 - alpha) * g**2
        v = momentum * v + g / (sqrt(s) + eps)
        parameter -= lr * v

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import RMSprop
    >>> parameters = {"w": np.array([1.0])}
    >>> RMSprop(parameters, lr=0.01).step({"w": np.array([5.0])})
    >>> parameters["w"].round(6).tolist()
    [0.9]
    """

    _settings: ClassVar = {"alpha": as_fraction, "eps": as_rate, "momentum": as_fraction, "weight_decay": as_rate}
    _slots = ("square", "velocity")

    def __init__(
        self,
        parameters: Mapping[str, Any],
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay)

    def _update(
        self, parameter: FloatArray, gradient: FloatArray, state: dict[str, FloatArray], t: int, s: dict[str, Any]
    ) -> None:
        if s["weight_decay"]:
            gradient = gradient + s["weight_decay"] * parameter
        square, velocity = state["square"], state["velocity"]
        square *= s["alpha"]
        square += (1 - s["alpha"]) * gradient * gradient
        velocity *= s["momentum"]
        velocity += gradient / (np.sqrt(square) + s["eps"])
        parameter -= s["lr"] * velocity
