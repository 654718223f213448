"""What a layer holds by name: parameters and their gradients, running statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._checks import INT64_MAX, as_array, require_writeable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._core import FloatArray, Int64Array


class LayerState:
    """Arrays of shape (C,), or None where there is none; the counter is of shape ()."""

    weight: FloatArray | None
    bias: FloatArray | None
    weight_grad: FloatArray | None
    bias_grad: FloatArray | None
    running_mean: FloatArray | None
    running_var: FloatArray | None
    num_batches_tracked: Int64Array | None

    def parameters(self) -> dict[str, FloatArray]:
        """Return the parameters that exist, by name; the arrays are live.

        Returns
        -------
        dict of str to ndarray
            "weight" and "bias".

        Examples
        --------
        >>> import batchnorm as bn
        >>> {name: array.tolist() for name, array in bn.BatchNorm(2).parameters().items()}
        {'weight': [1.0, 1.0], 'bias': [0.0, 0.0]}
        """
        return _existing({"weight": self.weight, "bias": self.bias})

    def gradients(self) -> dict[str, FloatArray]:
        """Return the gradients, by the names of their parameters; the arrays are live.

        Returns
        -------
        dict of str to ndarray
            "weight" and "bias".

        Examples
        --------
        >>> import batchnorm as bn
        >>> layer = bn.BatchNorm(2)
        >>> layer.gradients()["weight"] is layer.weight_grad
        True
        """
        return _existing({"weight": self.weight_grad, "bias": self.bias_grad})

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return parameters and running statistics that exist, by PyTorch's names; the arrays are live.

        Returns
        -------
        dict of str to ndarray
            "weight", "bias", "running_mean", "running_var" and "num_batches_tracked".

        Examples
        --------
        >>> import batchnorm as bn
        >>> list(bn.BatchNorm(2, affine=False).state_dict())
        ['running_mean', 'running_var', 'num_batches_tracked']
        """
        return _existing(
            {
                "weight": self.weight,
                "bias": self.bias,
                "running_mean": self.running_mean,
                "running_var": self.running_var,
                "num_batches_tracked": self.num_batches_tracked,
            }
        )

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy parameters and running statistics into the layer's arrays: all of them, or none after an error.

        Parameters
        ----------
        state : mapping of str to array_like
            As `state_dict` returns it. Values are what `numpy.asarray` takes (CPU tensors too), of any real dtype,
            which is converted to the layer's. "num_batches_tracked" is an integer of shape () or (1,).
        strict : bool, default True
            Whether the keys must be the layer's. Otherwise what is missing stays as it is and what is unknown is
            ignored.

        Raises
        ------
        TypeError
            `state` is not a mapping, `strict` not a bool, or a value not a real array.
        ValueError
            The keys differ and `strict` is true, a shape differs, a variance or the counter is negative, or an array of
            the layer is read-only.

        Examples
        --------
        >>> import batchnorm as bn
        >>> layer = bn.BatchNorm(2)
        >>> layer.load_state_dict({"weight": [3.0, 4.0]}, strict=False)
        >>> layer.weight.tolist()
        [3.0, 4.0]
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a mapping of names to arrays, got {type(state).__name__}")
        own = self.state_dict()
        if _core.check_flag(strict, "strict") and state.keys() != own.keys():
            missing = [name for name in own if name not in state]
            unexpected = [name for name in state if name not in own]
            raise ValueError(
                f"state: expected the keys {list(own)}, got missing keys {missing}, unexpected keys {unexpected}"
            )
        write(*((name, array, _loadable(name, state[name], array)) for name, array in own.items() if name in state))

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1, and the number of batches to 0, in place.

        Examples
        --------
        >>> import batchnorm as bn
        >>> layer = bn.BatchNorm(2)
        >>> layer.running_mean += 5
        >>> layer.reset_running_stats()
        >>> layer.running_mean.tolist()
        [0.0, 0.0]
        """
        write(
            ("running_mean", self.running_mean, 0),
            ("running_var", self.running_var, 1),
            ("num_batches_tracked", self.num_batches_tracked, 0),
        )

    def reset_parameters(self) -> None:
        """Set the weight to 1 and the bias to 0, in place.

        Examples
        --------
        >>> import batchnorm as bn
        >>> layer = bn.BatchNorm(2)
        >>> layer.weight += 5
        >>> layer.reset_parameters()
        >>> layer.weight.tolist()
        [1.0, 1.0]
        """
        write(("weight", self.weight, 1), ("bias", self.bias, 0))


def _existing(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: array for name, array in arrays.items() if array is not None}


def write(*targets: tuple[str, NDArray[Any] | None, Any]) -> None:
    """Write a value that fits to each array that exists: to all of them, or to none after an error."""
    for name, array, _ in targets:
        if array is not None:
            require_writeable(name, array)
    for _, array, value in targets:
        if array is not None:
            array[...] = value


def _loadable(name: str, value: object, target: NDArray[Any]) -> NDArray[Any]:
    """Return `value` as a new array that `target` can take in without an error."""
    counter = name == "num_batches_tracked"
    array = as_array(f"state[{name!r}]", value)
    if array.dtype.kind not in ("iu" if counter else "iuf"):
        raise TypeError(f"state[{name!r}]: expected {'an integer' if counter else 'real numbers'}, got {array.dtype}")
    if array.shape != target.shape and not (counter and array.shape == (1,)):
        raise ValueError(f"state[{name!r}]: expected shape {target.shape}, got {array.shape}")
    if counter and not 0 <= array.item() <= INT64_MAX:
        raise ValueError(f"state[{name!r}]: expected an integer from 0 to 2**63 - 1, got {array.item()}")
    if name == "running_var" and (array < 0).any():
        raise ValueError(f"state[{name!r}]: expected values >= 0, got {array.min()}")
    with np.errstate(over="ignore"):
        return array.astype(target.dtype).reshape(target.shape)
