"""Drawings of a network and its data, for the notebooks: they are drawn from the arrays at hand.

Backgrounds are transparent and the ink is a grey, so that a drawing suits light and dark pages.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from rnn_scratch.contract import Batch
from rnn_scratch.runs.curve import INK, STYLE

ROWS = "C0", "C1"  # colors of the rows of a minibatch


def style() -> None:
    """Set matplotlib's defaults for all figures that follow."""
    plt.rcParams.update({**STYLE, "text.parse_math": True})  # its labels are written here
    plt.rc("figure", figsize=(5, 3), dpi=80)


def shapes(X: np.ndarray, codes: np.ndarray, logits: np.ndarray) -> None:
    """Draw a minibatch on its way: tokens (B, T), one-hot vectors (T, B, V), logits (T*B, V)."""
    (B, T), V = X.shape, codes.shape[-1]
    _, (left, middle, right) = plt.subplots(
        1, 3, figsize=(8.5, 3.4), width_ratios=(1, 1.6, 1.6), layout="constrained"
    )
    for row, tokens in enumerate(X):
        for step, token in enumerate(tokens):
            left.text(step, row, str(token), ha="center", va="center", color=ROWS[row % 2])
    left.set(xlim=(-0.5, T - 0.5), ylim=(B - 0.5, -0.5), aspect="equal")
    left.set(title=f"X ({B}, {T})", xlabel="time step", ylabel="row", xticks=range(T))
    left.set_yticks(range(B))
    # The time steps of the one-hot vectors below one another, with gaps between them.
    gaps = np.full((T, B + 1, V), np.nan)
    gaps[:, :B] = codes
    middle.imshow(gaps.reshape(-1, V)[:-1], aspect="auto", cmap="Greys", vmin=-0.3)
    middle.set(title=f"one-hot vectors ({T}, {B}, {V})", xlabel="entry of the vocabulary")
    middle.set_yticks((B + 1) * np.arange(T) + (B - 1) / 2, [f"step {step}" for step in range(T)])
    right.imshow(logits, aspect="auto", cmap="viridis")
    right.set(title=f"logits ({T * B}, {V})", xlabel="entry of the vocabulary")
    labels = [f"step {step}, row {row}" for step in range(T) for row in range(B)]
    right.set_yticks(range(T * B), labels)
    for number, label in enumerate(right.get_yticklabels()):
        label.set_color(ROWS[number % B % 2])
    for axes in (left, middle, right):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    plt.show()


def unrolled(codes: Sequence[int], state: Sequence[int], logits: Sequence[int]) -> None:
    """Draw the network unrolled in time, with the shapes of what goes along its arrows.

    `codes` is the shape (T, B, V) of its inputs, `state` (B, H), and `logits` (T*B, V).
    """
    (T, B, V), H = codes, state[1]
    steps = sorted({0, min(1, T - 1), T - 1})
    last = len(steps) - 1
    _, axes = plt.subplots(figsize=(8.5, 3.6), layout="constrained")

    def arrow(start: tuple[float, float], end: tuple[float, float], words: str) -> None:
        _arrow(axes, start, end)
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        if start[0] == end[0]:
            axes.text(x + 0.04, y, words, va="center")
        else:
            axes.text(x, y + 0.06, words, ha="center", va="bottom")

    _box(axes, -1, 1, "$h_{-1}$", "C1")
    for position, step in enumerate(steps):
        _box(axes, position, 0, f"$x_{{{step}}}$", "C0")
        _box(axes, position, 1, f"$h_{{{step}}}$", "C1")
        _box(axes, position, 2, f"$s_{{{step}}}$", "C2")
        arrow((position, 0), (position, 1), f"({B}, {V}) @ $W_{{xh}}$")
        arrow((position, 1), (position, 2), f"({B}, {H}) @ $W_{{hq}}$")
        between = "⋯  " if position and step > steps[position - 1] + 1 else ""
        arrow((position - 1, 1), (position, 1), f"{between}({B}, {H}) @ $W_{{hh}}$")
    arrow((last, 1), (last + 1, 1), f"({B}, {H})")
    axes.text(last + 1, 1, "next\nminibatch", ha="center", va="center")
    axes.set(xlim=(-1.2, last + 1.3), ylim=(-0.3, 2.3))
    axes.set_title(f"{T} steps with the same weights; their logits $s_t$ together: {tuple(logits)}")
    axes.axis("off")
    plt.show()


def softmax(logits: np.ndarray, vocab: Sequence[str], target: int) -> None:
    """Draw one character's logits (V,), their exponentials, and the probabilities as bars."""
    powers = np.exp(logits.astype("float64"))
    rows = {"logit": logits, "exponential": powers, "probability": powers / powers.sum()}
    _, all_axes = plt.subplots(3, 1, figsize=(8.5, 4.2), sharex=True, layout="constrained")
    colors = ["C1" if token == target else "C0" for token in range(len(vocab))]
    for axes, (name, heights) in zip(all_axes, rows.items()):
        axes.bar(range(len(vocab)), heights, color=colors)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_ylabel(name)
    chosen = f"the target, {_shown(vocab[target])!r}: {rows['probability'][target]:.3f}"
    all_axes[2].set_xticks(range(len(vocab)), [_shown(entry) for entry in vocab])
    all_axes[2].set_title(f"they add up to 1; {chosen}", fontsize=9)
    plt.show()


def backward(steps: int) -> None:
    """Draw the network unrolled in time, and the backward pass through it."""
    _, axes = plt.subplots(figsize=(8.5, 4), layout="constrained")
    for step in range(steps):
        for row, (name, color) in enumerate(
            (("x", "C0"), ("h", "C1"), ("s", "C2"), (r"\ell", INK))
        ):
            _box(axes, step, row, f"${name}_{{{step}}}$", color)
            if row:
                _arrow(axes, (step - 0.08, row - 1), (step - 0.08, row))
            if row > 1:
                _arrow(axes, (step + 0.08, row), (step + 0.08, row - 1), back=True)
        if step:
            _arrow(axes, (step - 1, 1.1), (step, 1.1))
            _arrow(axes, (step, 0.9), (step - 1, 0.9), back=True)
            axes.text(step - 0.5, 0.82, r"$W_{hh}^\top$", ha="center", va="top")
        axes.text(step + 0.14, 1.5, r"$W_{hq}^\top$", va="center")
    axes.set(xlim=(-0.5, steps - 0.5), ylim=(-0.4, 3.4))
    axes.set_title("forward: solid; backward: dashed, from the losses to every earlier state")
    axes.axis("off")
    plt.show()


def clipping(gradients: Sequence[tuple[float, float]], theta: float) -> None:
    """Draw gradients of two parameters as arrows, before and after clipping to the norm theta."""
    _, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    angles = np.linspace(0, 2 * np.pi, 100)
    axes.plot(theta * np.cos(angles), theta * np.sin(angles), color=INK, linestyle=":")
    axes.text(0, -theta, "$\\theta$", ha="center", va="top")
    for number, gradient in enumerate(np.asarray(gradients)):
        clipped = gradient * min(1, theta / np.linalg.norm(gradient))
        for end, alpha in ((gradient, 0.35), (clipped, 1)):
            style = {"arrowstyle": "->", "color": f"C{number}", "alpha": alpha, "linewidth": 2}
            axes.annotate("", end, (0, 0), arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
    ends = np.array([*gradients, (-theta, -theta), (theta, theta)])
    axes.set(xlim=(ends[:, 0].min() - 0.4, ends[:, 0].max() + 0.4), aspect="equal")
    axes.set(ylim=(ends[:, 1].min() - 0.4, ends[:, 1].max() + 0.2))
    axes.set_title("pale: the gradient; strong: clipped")
    axes.set(xlabel="first parameter", ylabel="second parameter")
    plt.show()


def gru() -> None:
    """Draw one step of the GRU: its state's way, and where its gates act."""
    places = {
        "$h_{t-1}$": (0, 2),
        r"$\odot\ z_t$": (3.2, 2),
        "+": (4.8, 2),
        "$h_t$": (6.4, 2),
        r"$\odot\ r_t$": (1.6, 1),
        r"$\tilde{h}_t$": (3.2, 1),
        r"$\odot\ (1 - z_t)$": (4.8, 1),
        "$x_t$": (3.2, 0),
    }
    ways = (0, 1, 2, 3), (0, 4, 5, 6, 2), (7, 5)
    _cell(places, ways, "the gates $r_t$ and $z_t$ are computed from $x_t$ and $h_{t-1}$")


def lstm() -> None:
    """Draw one step of the LSTM: its memory's way, and where its gates act."""
    places = {
        "$c_{t-1}$": (0, 2),
        r"$\odot\ f_t$": (1.6, 2),
        "+": (3.2, 2),
        "$c_t$": (4.8, 2),
        "$x_t, h_{t-1}$": (0, 1),
        r"$\tilde{c}_t$": (1.6, 1),
        r"$\odot\ i_t$": (3.2, 1),
        r"tanh, $\odot\ o_t$": (4.8, 1),
        "$h_t$": (6.4, 1),
    }
    ways = (0, 1, 2, 3, 7, 8), (4, 5, 6, 2)
    _cell(places, ways, "the gates $i_t$, $f_t$, $o_t$ are computed from $x_t$ and $h_{t-1}$")


def partitions(ways: Mapping[str, Sequence[Batch]], length: int) -> None:
    """Draw where the rows of minibatches are in a text of consecutive numbers.

    An arrow leads from a row to the one that continues it in the next minibatch.
    """
    _, all_axes = plt.subplots(1, len(ways), figsize=(8.5, 2.4), sharey=True, layout="constrained")
    for axes, (way, batches) in zip(all_axes, ways.items()):
        for number, batch in enumerate(batches):
            for row, xs in enumerate(batch.X):
                _block(axes, number, row, xs)
                if number and batches[number - 1].X[row][-1] + 1 == xs[0]:
                    arrow = {"arrowstyle": "->", "color": ROWS[row % 2]}
                    axes.annotate(
                        "", (xs[0], number - 0.3), (xs[0], number - 0.7), arrowprops=arrow
                    )
        axes.set(title=way, xlabel="position in the text", xlim=(-1, length))
    all_axes[0].set(ylabel="minibatch", yticks=range(max(map(len, ways.values()))))
    all_axes[0].invert_yaxis()
    plt.show()


def states(text: str, values: np.ndarray, num_units: int = 32) -> None:
    """Draw a heat map of the state after each character: `values` (characters, H) from -1 to 1."""
    _, axes = plt.subplots(figsize=(8.5, 3.4), layout="constrained")
    image = axes.imshow(values[:, :num_units].T, aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set(xlabel="character that was read", ylabel="hidden unit")
    axes.set_xticks(range(len(text)), [_shown(c) for c in text])
    axes.figure.colorbar(image, label="value")
    plt.show()


def next_characters(
    text: str, probabilities: np.ndarray, vocab: Sequence[str], number: int = 5
) -> None:
    """Draw the most likely next characters as bars, after each character but the last.

    `probabilities` is (characters, V). The character that follows in the text has another color.
    """
    count = len(text) - 1
    columns = -(-count // 2)
    figure, grid = plt.subplots(
        2, columns, figsize=(8.5, 3.6), sharex=True, squeeze=False, layout="constrained"
    )
    for axes in grid.flat[count:]:
        axes.axis("off")
    for axes, position in zip(grid.flat, range(count)):
        best = np.argsort(-probabilities[position])[:number][::-1]
        follows = [vocab[token] == text[position + 1] for token in best]
        colors = ["C1" if correct else "C0" for correct in follows]
        names = [_shown(vocab[token]) for token in best]
        axes.barh(range(len(best)), probabilities[position][best], color=colors)
        axes.set_yticks(range(len(best)), names)
        axes.set(xlim=(0, 1), xticks=(0, 1))
        before = text[: position + 1].replace(" ", "␣")
        axes.set_title(before[-10:], fontsize=9)
    figure.supxlabel("probability", fontsize=9)
    plt.show()


def growth(curves: Mapping[str, Sequence], equal: Mapping[str, Sequence]) -> None:
    """Draw the growth of a difference in the state, and where frameworks stay equal.

    `curves` has pairs of scale and growth by cell. `equal`, of the first cell, has the scale, the
    updates after which a framework equals the reference, and the updates made, by framework.
    """
    _, axes = plt.subplots(figsize=(8.5, 3.8), layout="constrained")
    for number, (cell, points) in enumerate(curves.items()):
        axes.plot(*zip(*points), color=f"C{number}", marker=".", label=cell)
    first = dict(next(iter(curves.values())))
    fates: dict[float, bool] = {}  # whether all frameworks stayed equal
    for rows in equal.values():
        for scale, same, updates in rows:
            fates[scale] = fates.get(scale, True) and same == updates
    for fate, marker, label in ((True, "o", "rnn, all equal"), (False, "X", "rnn, not all equal")):
        scales = [scale for scale in fates if fates[scale] == fate]
        heights = [first[scale] for scale in scales]
        color = "C2" if fate else "C3"
        axes.plot(scales, heights, marker, color=color, markersize=8, label=label)
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.set(yscale="log", xlabel=r"$\sigma \sqrt{H}$", ylabel="growth of a difference")
    axes.legend(frameon=False)
    plt.show()


def _block(axes: Axes, number: int, row: int, positions: np.ndarray) -> None:
    axes.barh(number, len(positions), left=positions[0] - 0.5, height=0.5, color=ROWS[row % 2])
    middle = positions[0] + (len(positions) - 1) / 2
    axes.text(middle, number, f"row {row}", ha="center", va="center", color="white", fontsize=8)


def _shown(character: str) -> str:
    return "␣" if character == " " else character


def _box(axes: Axes, x: float, y: float, name: str, color: str) -> None:
    frame = {"boxstyle": "round,pad=0.5", "facecolor": "none", "edgecolor": INK}
    axes.text(x, y, name, ha="center", va="center", color=color, bbox=frame)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    back: bool = False,
    gap: int = 18,
) -> None:
    color, dashes = ("C3", "--") if back else (INK, "-")
    style = {
        "arrowstyle": "->",
        "color": color,
        "linestyle": dashes,
        "shrinkA": gap,
        "shrinkB": gap,
    }
    axes.annotate("", end, start, arrowprops=style)


def _cell(
    places: Mapping[str, tuple[float, float]], ways: Sequence[Sequence[int]], title: str
) -> None:
    # One step of a cell: names at their places, and arrows along these ways from one to the next.
    _, axes = plt.subplots(figsize=(8.5, 3), layout="constrained")
    for name, (x, y) in places.items():
        _box(axes, x, y, name, "C3" if "odot" in name else INK if name == "+" else "C1")
    points = list(places.values())
    for way in ways:
        for start, end in itertools.pairwise(way):
            wide = points[start][1] == points[end][1]  # along the row, boxes are wider than high
            _arrow(axes, points[start], points[end], gap=34 if wide else 18)
    axes.set(xlim=(-0.9, 7.3), ylim=(min(y for _, y in points) - 0.4, 2.4), title=title)
    axes.axis("off")
    plt.show()
