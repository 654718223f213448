"""State that survives a save: flat, names to arrays, so that `numpy.savez` takes it as it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._checks import fitting


class Stateful(ABC):
    """An object with a `state_dict`. Loading changes all of it, or nothing after an error."""

    @abstractmethod
    def _get_state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Names to live arrays, or to 0-d arrays of what is no array."""

    @abstractmethod
    def _check_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Refuse values that the object can't have; names, shapes and dtypes are right already."""

    @abstractmethod
    def _set_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take the values over; they are right."""

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the state, as copies.

        Returns
        -------
        dict of str to ndarray
            What `load_state_dict` takes and ``numpy.savez(file, **state)`` saves.
        """
        return {name: value.copy() for name, value in self._get_state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of an object that was made with the same arguments.

        Parameters
        ----------
        state : mapping of str to array_like
            As `state_dict` returns it, or what ``numpy.load`` makes of it.

        Raises
        ------
        TypeError, ValueError
            Names, shapes, dtypes or values differ from what the object can have. Nothing has changed then.
        """
        own = self._get_state()
        fitted = {
            name: array.astype(own[name].dtype) for name, array in fitting("state", state, own, same_kind=True).items()
        }
        self._check_state(fitted)
        self._set_state(fitted)


class Counted(Stateful):
    """An object whose state is a number of steps."""

    steps: int

    def _apply(self) -> None:
        """Set what depends on the number of steps."""

    def _get_state(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"steps": np.asarray(self.steps)}

    def _check_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        if state["steps"] < 0:
            raise ValueError(f"steps: expected an integer >= 0, got {state['steps']}")

    def _set_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        self.steps = state["steps"].item()
        self._apply()
