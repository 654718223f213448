"""Statistics of data sets, and what is done with them."""

from .normalizer import Normalizer

__all__ = ["Normalizer"]
