"""What the examples share: the digits, small networks in autograd's NumPy, a training loop, tables and pictures."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

MISSING = [name for name in ("autograd", "matplotlib", "rich", "sklearn") if importlib.util.find_spec(name) is None]
if MISSING:
    sys.exit(f"this example needs {', '.join(MISSING)}: pip install '.[examples]'")

import autograd.numpy as anp  # noqa: E402
import matplotlib as mpl  # noqa: E402
import numpy as np  # noqa: E402
from autograd import value_and_grad  # noqa: E402

import batchnorm as bn  # noqa: E402
from batchnorm.autograd import apply  # noqa: E402
from batchnorm.training import Optimizer, initialization, parameters_of  # noqa: E402

mpl.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

# On matrices this small the threads of a BLAS cost more than they give.
threadpool_limits(1, user_api="blas")

Array = np.ndarray[Any, Any]
Parameters = dict[str, Array]
CLASSES = 10


class Data(NamedTuple):
    """Images as rows of 64 values in 0 .. 1, with labels as one-hot rows."""

    x: Array
    labels: Array

    def take(self, rows: Any) -> Data:
        """Return some of it."""
        return Data(self.x[rows], self.labels[rows])


def digits(dtype: Any = np.float32) -> tuple[Data, Data]:
    """Return scikit-learn's 1797 digits of 8 x 8 pixels, 1347 to train on and 450 to test on, always the same."""
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    both = Data((x[order] / 16).astype(dtype), np.eye(CLASSES, dtype=dtype)[labels[order]])
    return both.take(slice(0, 1347)), both.take(slice(1347, None))


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), which overflows nowhere in this form."""
    return 0.5 * anp.tanh(0.5 * x) + 0.5


def relu(x: Any) -> Any:
    """Return max(x, 0)."""
    return anp.maximum(x, 0)


def cross_entropy(logits: Any, labels: Array) -> Any:
    """Return the mean over a batch of -log softmax at the label."""
    z = logits - anp.max(logits, axis=1, keepdims=True)
    return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - anp.sum(z * labels, axis=1))


Draw = Callable[[np.random.Generator, tuple[int, int]], Array]
Normalize = Callable[[bn.BatchNorm, Any, Any, Any], Any]


class Mlp:
    """Dense layers, each but the last followed by batch normalization, if wanted, and an activation.

    `parameters` holds "fc1.weight", "bn1.weight", "bn1.bias" and so on. A bias before a normalization would be taken
    away again by the mean, so there is none.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        widths: Sequence[int],
        draw: Draw,
        *,
        normalize: bool,
        activation: Callable[[Any], Any] = relu,
        dropout: float = 0.0,
        momentum: float | None = 0.1,
    ) -> None:
        self.depth, self.activation, self.dropout = len(widths) - 1, activation, dropout
        self.layers = {f"bn{k}": bn.BatchNorm(widths[k], momentum=momentum) for k in range(1, self.depth)}
        if not normalize:
            self.layers = {}
        self.parameters: Parameters = parameters_of(self.layers)
        for k in range(1, self.depth + 1):
            self.parameters[f"fc{k}.weight"] = draw(rng, (widths[k - 1], widths[k]))
            if f"bn{k}" not in self.layers:
                self.parameters[f"fc{k}.bias"] = np.zeros(widths[k], np.float32)
        self.training = True
        self._rng = rng

    def train(self, mode: bool) -> None:
        """Choose training or evaluation."""
        self.training = mode
        for layer in self.layers.values():
            layer.train(mode)

    def logits(self, p: Parameters, x: Any, seen: list[Any] | None = None, normalize: Normalize = apply) -> Any:
        """Run the network; `seen` takes the input of each activation."""
        for k in range(1, self.depth + 1):
            x = anp.dot(x, p[f"fc{k}.weight"])
            if f"bn{k}" in self.layers:
                x = normalize(self.layers[f"bn{k}"], x, p[f"bn{k}.weight"], p[f"bn{k}.bias"])
            else:
                x = x + p[f"fc{k}.bias"]
            if k == self.depth:
                return x
            if seen is not None:
                seen.append(x)
            x = self.activation(x)
            if self.dropout and self.training:
                kept = self._rng.random(x.shape, np.float32) >= self.dropout
                x = x * (kept / np.float32(1 - self.dropout))
        return x

    def loss(self, p: Parameters, data: Data) -> Any:
        """Return the loss of a batch, which autograd differentiates by `p`."""
        return cross_entropy(self.logits(p, data.x), data.labels)

    def accuracy(self, data: Data) -> float:
        """Return the percentage of right answers in evaluation mode; the mode is put back."""
        mode = self.training
        self.train(False)
        right = self.logits(self.parameters, data.x).argmax(axis=1) == data.labels.argmax(axis=1)
        self.train(mode)
        return 100 * float(right.mean())


def gaussian(std: float) -> Draw:
    """Return a draw from a normal distribution of this deviation."""
    return lambda rng, shape: initialization.normal(rng, shape, std)


def batches(rng: np.random.Generator, count: int, size: int) -> Iterator[Array]:
    """Yield rows of batches for ever, each row once per epoch; what is left over after whole batches is dropped."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


def train(
    net: Any,
    optimizer: Optimizer,
    data: Data,
    steps: int,
    batch: int,
    rng: np.random.Generator,
    after: Callable[[int], bool | None] = lambda step: None,
    change: Callable[[Parameters], object] = lambda gradients: None,
) -> None:
    """Train for some steps. `change` may edit the gradients; `after` is told of each step and may end it with True."""
    gradient = value_and_grad(net.loss)
    net.train(True)
    for step, rows in zip(range(1, steps + 1), batches(rng, len(data.x), batch), strict=False):
        _, gradients = gradient(net.parameters, data.take(rows))
        change(gradients)
        optimizer.step(gradients)
        if after(step):
            break


def options(description: str | None, extra: Callable[[argparse.ArgumentParser], object] | None = None) -> Any:
    """Parse --quick and --out."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps and seeds: seconds instead of minutes")
    parser.add_argument(
        "--out", type=Path, default=Path("."), metavar="DIR", help="where the picture goes (default: .)"
    )
    if extra is not None:
        extra(parser)
    return parser.parse_args()


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar; call what it yields after each part, with what comes next."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda text: bar.update(task, description=text, advance=1)


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    Console(width=max(console.width, 100)).print(table)


def save(figure: Any, folder: Path, script: str) -> None:
    """Save a picture under the example's name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{Path(script).stem}.png"
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)
    print(f"saved {path}")


def median_and_range(values: Sequence[float], digits_after: int = 0) -> str:
    """Return "median (least .. most)"."""
    return f"{np.median(values):.{digits_after}f} ({min(values):.{digits_after}f} .. {max(values):.{digits_after}f})"
