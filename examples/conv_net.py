"""A network of three convolutions on the digits, channels last, BN after each: eps 1e-3, Adam at 1e-3.

A 3 x 3 convolution is nine matrix products of shifted images. Shown are the accuracy by epoch, and what the channels of
the first layer see before and after their normalization.

    python examples/conv_net.py
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import autograd.numpy as anp
import matplotlib.pyplot as plt
import numpy as np
from common import Array, Data, cross_entropy, digits, options, print_table, progress, relu, save, train

import batchnorm as bn
from batchnorm.autograd import apply
from batchnorm.training import Adam, ExponentialLR, parameters_of
from batchnorm.training.initialization import he

CHANNELS, STRIDES, BATCH, EPOCHS = (1, 16, 32, 64), (1, 2, 2), 64, 25


def convolve(x: Any, w: Any, stride: int) -> Any:
    """Return the 3 x 3 convolution of (N, H, W, C) with (3, 3, C, D), padded with zeros, at every stride-th place."""
    n, height, width, channels = x.shape
    padded = anp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="constant")
    shifted = [
        padded[:, i : i + height : stride, j : j + width : stride].reshape(-1, channels)
        for i in range(3)
        for j in range(3)
    ]
    columns = anp.concatenate(shifted, axis=1)
    y = anp.dot(columns, anp.reshape(w, (9 * channels, -1)))
    return y.reshape(n, -(-height // stride), -(-width // stride), -1)


class ConvNet:
    """Convolution, BN, ReLU, three times; the mean over the image; a dense layer."""

    def __init__(self, rng: np.random.Generator, normalize: bool) -> None:
        pairs = list(pairwise(CHANNELS))
        self.layers = {f"bn{k}": bn.BatchNorm(d, eps=1e-3, axis=-1) for k, (_, d) in enumerate(pairs, 1)}
        if not normalize:
            self.layers = {}
        self.parameters = parameters_of(self.layers)
        for k, (c, d) in enumerate(pairs, 1):
            self.parameters[f"conv{k}.weight"] = he(rng, (3, 3, c, d), layout="hwio")
        self.parameters["fc.weight"] = he(rng, (CHANNELS[-1], 10), gain=1.0)
        self.parameters["fc.bias"] = np.zeros(10, np.float32)

    def train(self, mode: bool) -> None:
        """Choose training or evaluation."""
        for layer in self.layers.values():
            layer.train(mode)

    def logits(self, p: dict[str, Any], x: Any, seen: list[Any] | None = None) -> Any:
        """Run the network; `seen` takes what goes into and comes out of each normalization."""
        x = x.reshape(-1, 8, 8, 1)
        for k, stride in enumerate(STRIDES, 1):
            x = before = convolve(x, p[f"conv{k}.weight"], stride)
            if self.layers:
                x = apply(self.layers[f"bn{k}"], x, p[f"bn{k}.weight"], p[f"bn{k}.bias"])
            if seen is not None:
                seen.append((before, x))
            x = relu(x)
        return anp.dot(anp.mean(x, axis=(1, 2)), p["fc.weight"]) + p["fc.bias"]

    def loss(self, p: dict[str, Any], data: Data) -> Any:
        """Return the loss of a batch."""
        return cross_entropy(self.logits(p, data.x), data.labels)

    def accuracy(self, data: Data) -> float:
        """Return the percentage of right answers in evaluation mode."""
        self.train(False)
        right = self.logits(self.parameters, data.x).argmax(axis=1) == data.labels.argmax(axis=1)
        self.train(True)
        return 100 * float(right.mean())


def run(normalize: bool, epochs: int, advance: Any) -> tuple[list[float], ConvNet]:
    """Return the accuracy after each epoch, and the network."""
    data, test = digits()
    rng = np.random.default_rng(3)
    net = ConvNet(rng, normalize)
    optimizer = Adam(net.parameters, 1e-3)
    schedule = ExponentialLR(optimizer, 0.9)
    per_epoch, curve = len(data.x) // BATCH, list[float]()

    def after(step: int) -> None:
        if step % per_epoch == 0:
            curve.append(net.accuracy(test))
            schedule.step()
            advance("with BN" if normalize else "without BN")

    train(net, optimizer, data, epochs * per_epoch, BATCH, rng, after)
    return curve, net


def draw(curves: dict[str, list[float]], before: Array, after: Array) -> Any:
    """Accuracy, and the spread of each channel of the first layer."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), width_ratios=(1.3, 1, 1), layout="constrained")
    for name, curve in curves.items():
        axes[0].plot(range(1, len(curve) + 1), curve, label=name)
    axes[0].set(title="test accuracy, %", xlabel="epoch", ylim=(50, 101))
    axes[0].legend()
    for axis, values, title in ((axes[1], before, "before"), (axes[2], after, "after")):
        axis.boxplot(values.reshape(-1, CHANNELS[1]), showfliers=False)
        axis.set(title=f"channels of the first layer, {title} BN", xlabel="channel")
        axis.set_xticks([1, 8, 16], ["1", "8", "16"])
    return figure


def main() -> None:
    """Train with and without BN, and show it."""
    chosen = options(__doc__)
    epochs = 2 if chosen.quick else EPOCHS
    with progress(2 * epochs) as advance:
        plain, _ = run(False, epochs, advance)
        normalized, net = run(True, epochs, advance)
    curves = {"without BN": plain, "with BN": normalized}
    rows = [[name, f"{curve[0]:.1f}", f"{curve[-1]:.1f}", f"{max(curve):.1f}"] for name, curve in curves.items()]
    print_table("Test accuracy, %", ["", "after 1 epoch", "last", "best"], rows)
    seen: list[Any] = []
    net.train(False)
    net.logits(net.parameters, digits()[1].x, seen)
    save(draw(curves, *seen[0]), chosen.out, __file__)


if __name__ == "__main__":
    main()
