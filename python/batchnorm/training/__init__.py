"""Training with batch normalization: the techniques around the layer, for named NumPy arrays of any framework.

Examples
--------
>>> import numpy as np
>>> import batchnorm as bn
>>> from batchnorm.training import SGD, ExponentialLR, by_role, gradients_of, parameters_of
>>> layers = {"bn": bn.BatchNorm(2)}
>>> parameters = {"fc.weight": np.ones((2, 2), np.float32), **parameters_of(layers)}
>>> optimizer = SGD(by_role(parameters, layers), lr=0.1, momentum=0.9, weight_decay=1e-4)
>>> schedule = ExponentialLR(optimizer, decay=0.95)
>>> x = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
>>> h = layers["bn"](x @ parameters["fc.weight"])
>>> dh = layers["bn"].backward(np.ones_like(h))
>>> optimizer.step({"fc.weight": x.T @ dh, **gradients_of(layers)})
>>> schedule.step()
>>> parameters["bn.bias"]
array([-0.2, -0.2], dtype=float32)
"""

from . import initialization
from .averages import ExponentialMovingAverage
from .optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from .pruning import add_l1, clip_by_norm, clip_by_value, kept_channels, take_channels, take_layer
from .roles import Phases, by_role, gradients_of, parameters_of
from .schedules import ExponentialLR, LinearWarmup, ReduceOnPlateau, RenormWarmup
from .transfer import blend, extract, reestimate, transfer

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "ExponentialLR",
    "ExponentialMovingAverage",
    "LinearWarmup",
    "Optimizer",
    "Phases",
    "RMSprop",
    "ReduceOnPlateau",
    "RenormWarmup",
    "add_l1",
    "blend",
    "by_role",
    "clip_by_norm",
    "clip_by_value",
    "extract",
    "gradients_of",
    "initialization",
    "kept_channels",
    "parameters_of",
    "reestimate",
    "take_channels",
    "take_layer",
    "transfer",
]
