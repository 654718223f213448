"""Transfer of BN statistics to a shifted domain, training of BN alone, and pruning by the BN scale.

First a network that has learned the digits meets them pale and noisy, and inverted. Shown is its accuracy as it is,
with a blend of old statistics and those of 100 images, with statistics re-estimated on the target, and after training
nothing but weights and biases of BN. Statistics undo a change of brightness and contrast, but not that of a sign.
Then a network whose BN weights were drawn to 0 by an L1 penalty loses 10 to 80 % of its channels, and is trained on for
a little.

    python examples/transfer_and_pruning.py
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from common import Array, Data, Mlp, digits, options, print_table, progress, save, train

import batchnorm as bn
from batchnorm.training import (
    SGD,
    add_l1,
    blend,
    by_role,
    extract,
    kept_channels,
    parameters_of,
    reestimate,
    take_channels,
    take_layer,
    transfer,
)
from batchnorm.training.initialization import he

WIDTHS, BATCH, STEPS, TUNING = (64, 128, 128, 10), 60, 2500, 200
RATE, L1 = 0.05, 5e-3
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def pale(x: Array, rng: np.random.Generator) -> Array:
    """Return images of less contrast on a gray ground, and noisy."""
    return (0.5 + 0.4 * x + rng.normal(0, 0.1, x.shape)).astype(np.float32)


def inverted(x: Array, rng: np.random.Generator) -> Array:
    """Return images black on white."""
    return 1 - x


DOMAINS: dict[str, Callable[[Array, np.random.Generator], Array]] = {"pale and noisy": pale, "inverted": inverted}


def learned(seed: int, data: Data, steps: int, strength: float = 0.0) -> Mlp:
    """Return a trained network."""
    rng = np.random.default_rng(seed)
    net = Mlp(rng, WIDTHS, lambda rng, shape: he(rng, shape), normalize=True)
    scales = {name: net.parameters[name] for name in net.parameters if name.startswith("bn") and "weight" in name}
    optimizer = SGD(by_role(net.parameters, net.layers), RATE, momentum=0.9, weight_decay=1e-4)
    train(net, optimizer, data, steps, BATCH, rng, change=lambda gradients: add_l1(gradients, scales, strength))
    return net


def forward(net: Mlp) -> Any:
    """Return the network as a function that calls its layers."""
    return lambda x: net.logits(net.parameters, x, normalize=lambda layer, x, weight, bias: layer(x))


def adapt(domain: str, steps: int, tuning: int) -> dict[str, float]:
    """Return the accuracy on a domain's test images, way by way."""
    data, test = digits()
    net = learned(5, data, steps)
    found = {"digits as learned": net.accuracy(test)}
    rng = np.random.default_rng(6)
    target, target_test = (Data(DOMAINS[domain](part.x, rng), part.labels) for part in (data, test))
    found["target, as it is"] = net.accuracy(target_test)

    source = extract(net.layers)
    few = reestimate(net.layers, forward(net), [target.x[:100]])
    for name, layer in net.layers.items():
        old = (source[f"{name}.running_mean"], source[f"{name}.running_var"])
        layer.running_mean[:], layer.running_var[:] = blend(*old, few[name], prior_count=20)  # type: ignore[index]
    found["target, 100 images blended in"] = net.accuracy(target_test)
    transfer(source, net.layers)
    reestimate(net.layers, forward(net), (target.x[i : i + 100] for i in range(0, len(target.x), 100)))
    found["target, statistics of its own"] = net.accuracy(target_test)

    optimizer = SGD(by_role(net.parameters, net.layers), RATE, momentum=0.9)
    optimizer.train_only("bn")
    train(net, optimizer, target, tuning, BATCH, rng)
    found[f"target, {tuning} steps of BN alone"] = net.accuracy(target_test)
    return found


def pruned(net: Mlp, fraction: float) -> Mlp:
    """Return a smaller network, without the channels of the smallest BN weights."""
    small = copy.copy(net)
    kept: dict[str, Array] = kept_channels(parameters_of_weights(net.layers), fraction, least=2)
    small.layers = {name: take_layer(layer, kept[name]) for name, layer in net.layers.items()}
    small.parameters = dict(net.parameters)
    for k in range(1, net.depth):
        here, after = f"fc{k}.weight", f"fc{k + 1}.weight"
        small.parameters[here] = take_channels(small.parameters[here], kept[f"bn{k}"], axis=1)
        small.parameters[after] = take_channels(small.parameters[after], kept[f"bn{k}"], axis=0)
    small.parameters = {name: a.copy() for name, a in small.parameters.items()} | parameters_of(small.layers)
    return small


def parameters_of_weights(layers: dict[str, bn.BatchNorm]) -> dict[str, Array]:
    """Return the weight of each layer by its name."""
    return {name: layer.weight for name, layer in layers.items() if layer.weight is not None}


def prune(steps: int, tuning: int, advance: Any) -> dict[str, list[tuple[int, float, float]]]:
    """Return (parameters, accuracy at once, accuracy after fine-tuning) by fraction, without and with the penalty."""
    data, test = digits()
    found: dict[str, list[tuple[int, float, float]]] = {}
    for name, strength in (("no penalty", 0.0), (f"L1 {L1:g}", L1)):
        net = learned(7, data, steps, strength)
        for fraction in (0.0, *FRACTIONS):
            small = pruned(net, fraction)
            at_once = small.accuracy(test)
            rng = np.random.default_rng(8)
            train(small, SGD(small.parameters, RATE / 2, momentum=0.9), data, tuning, BATCH, rng)
            size = sum(a.size for a in small.parameters.values())
            found.setdefault(name, []).append((size, at_once, small.accuracy(test)))
            advance("pruned")
    return found


def draw(adapted: dict[str, dict[str, float]], found: dict[str, list[tuple[int, float, float]]]) -> Any:
    """Bars of the transfer; lines of the pruning."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
    for k, (domain, values) in enumerate(adapted.items()):
        bars = axes[0].barh(np.arange(len(values)) + 0.4 * k, list(values.values()), height=0.38, label=domain)
        axes[0].bar_label(bars, fmt="%.1f", padding=3)
    axes[0].set_yticks(np.arange(len(values)) + 0.2, list(values))
    axes[0].invert_yaxis()
    axes[0].set(title="transfer: test accuracy, %", xlim=(0, 150))
    axes[0].legend(loc="center right")
    for (name, points), color in zip(found.items(), ("tab:orange", "tab:green"), strict=True):
        percent = [0, *(100 * f for f in FRACTIONS)]
        axes[1].plot(percent, [p[1] for p in points], color=color, ls="--", label=f"{name}, at once")
        axes[1].plot(percent, [p[2] for p in points], color=color, label=f"{name}, fine-tuned")
    axes[1].set(title="pruning: test accuracy, %", xlabel="channels taken away, %", ylim=(0, 101))
    axes[1].legend()
    return figure


def main() -> None:
    """Run both parts and show them."""
    chosen = options(__doc__)
    steps, tuning = (200, 40) if chosen.quick else (STEPS, TUNING)
    adapted = {}
    with progress(len(DOMAINS) + 2 * (1 + len(FRACTIONS))) as advance:
        for domain in DOMAINS:
            adapted[domain] = adapt(domain, steps, tuning)
            advance("adapted")
        found = prune(steps, tuning, advance)
    ways = next(iter(adapted.values()))
    transfer_rows = [[way, *(f"{values[way]:.1f}" for values in adapted.values())] for way in ways]
    print_table("Transfer: test accuracy, %", ["", *adapted], transfer_rows)
    rows = []
    for i, fraction in enumerate((0.0, *FRACTIONS)):
        cells = [f"{a:.1f}" for points in found.values() for a in points[i][1:]]
        rows.append([f"{100 * fraction:.0f} %", str(found["no penalty"][i][0]), *cells])
    head = ["channels gone", "parameters", *(f"{name}, {when}" for name in found for when in ("at once", "fine-tuned"))]
    print_table("Pruning: test accuracy, %", head, rows)
    save(draw(adapted, found), chosen.out, __file__)


if __name__ == "__main__":
    main()
