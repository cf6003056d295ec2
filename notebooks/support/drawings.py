"""Functions with which notebooks draw networks and their data.

Backgrounds are transparent and lines are gray, so that drawings suit light and dark pages.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from cycler import cycler
from IPython import get_ipython
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib_inline.backend_inline import set_matplotlib_formats

from rnn_scratch.contract import Batch
from rnn_scratch.runs.curve import INK, STYLE

ROWS = "C0", "C1"  # alternating colors of minibatch rows
LENGTHS = {"1": 0.4, "B": 0.8, "V": 1.2, "H": 1.6, "T B": 2.6}  # drawn lengths of matrix sides
Point = tuple[float, float]
_STATE_PATH = (0.0, 3.0), (1.6, 3.0), (4.6, 3.0), (6.4, 3.0)  # old state, product, sum, new state


def style() -> None:
    """Set Matplotlib's defaults for all subsequent figures."""
    plt.rcParams.update({**STYLE, "text.parse_math": True})  # the drawings' labels contain math
    plt.rc("figure", figsize=(5, 3), dpi=80)
    plt.rc("lines", markersize=4)
    # Use markers to distinguish lines even without color.
    colors = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    markers = cycler(marker=[*"os^DvPX*<>"], markevery=[0.1] * 10)  # a tenth of the diagonal apart
    plt.rc("axes", prop_cycle=cycler(color=colors) + markers)
    if get_ipython():
        set_matplotlib_formats("retina")  # double the resolution at the same displayed size


def shapes(X: np.ndarray, inputs: np.ndarray, logits: np.ndarray) -> None:
    """Draw a minibatch: tokens (B, T), one-hot vectors (T, B, V), and logits (T*B, V)."""
    (B, T), V = X.shape, inputs.shape[-1]
    _, (left, middle, right) = plt.subplots(
        1, 3, figsize=(8.5, 3.4), width_ratios=(1, 1.6, 1.6), layout="constrained"
    )
    for row, tokens in enumerate(X):
        for step, token in enumerate(tokens):
            left.text(step, row, str(token), ha="center", va="center", color=ROWS[row % 2])
    left.set(xlim=(-0.5, T - 0.5), ylim=(B - 0.5, -0.5), aspect="equal")
    left.set(title=f"X ({B}, {T})", xlabel="time step", ylabel="row", xticks=range(T))
    left.set_yticks(range(B))
    # Stack all one-hot vectors, with a gap after every time step.
    stacked = np.full((T, B + 1, V), np.nan)
    stacked[:, :B] = inputs
    middle.imshow(stacked.reshape(-1, V)[:-1], aspect="auto", cmap="Greys", vmin=-0.3)
    middle.set(title=f"one-hot vectors ({T}, {B}, {V})", xlabel="entry of the vocabulary")
    middle.set_yticks((B + 1) * np.arange(T) + (B - 1) / 2, [f"step {step}" for step in range(T)])
    right.imshow(logits, aspect="auto", cmap="viridis")
    right.set(title=f"logits ({T * B}, {V})", xlabel="entry of the vocabulary")
    labels = [f"step {step}, row {row}" for step in range(T) for row in range(B)]
    right.set_yticks(range(T * B), labels)
    for index, label in enumerate(right.get_yticklabels()):
        label.set_color(ROWS[index % B % 2])
    for axes in (left, middle, right):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    plt.show()


def unrolled(inputs: Sequence[int], state: Sequence[int], logits: Sequence[int]) -> None:
    """Draw the network unrolled in time, with operand shapes next to the arrows.

    The arguments are shapes: `inputs` (T, B, V), `state` (B, H), and `logits` (T*B, V).
    """
    (T, B, V), H = inputs, state[1]
    steps = sorted({0, min(1, T - 1), T - 1})
    last = len(steps) - 1
    _, axes = plt.subplots(figsize=(8.5, 3.6), layout="constrained")

    def arrow(start: Point, end: Point, label: str) -> None:
        _arrow(axes, start, end)
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        if start[0] == end[0]:
            axes.text(x + 0.04, y, label, va="center")
        else:
            axes.text(x, y + 0.06, label, ha="center", va="bottom")

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
    axes.text(last + 0.9, 1, "next\nminibatch", ha="left", va="center")
    axes.set(xlim=(-1.2, last + 1.5), ylim=(-0.3, 2.3))
    axes.set_title(f"{T} steps with the same weights; their logits $s_t$ together: {tuple(logits)}")
    axes.axis("off")
    plt.show()


def softmax(logits: np.ndarray, vocab: Sequence[str], target: int) -> None:
    """Draw logits (V,) as bars, with their exponentials and probabilities; highlight `target`."""
    powers = np.exp(logits.astype("float64"))
    rows = {"logit": logits, "exponential": powers, "probability": powers / powers.sum()}
    _, all_axes = plt.subplots(3, 1, figsize=(8.5, 4.2), sharex=True, layout="constrained")
    colors = ["C1" if token == target else "C0" for token in range(len(vocab))]
    for axes, (name, heights) in zip(all_axes, rows.items()):
        axes.bar(range(len(vocab)), heights, color=colors)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_ylabel(name)
    label = f"the target, {_show_space(vocab[target])!r}: {rows['probability'][target]:.3f}"
    labels = [_show_space(entry) for entry in vocab]
    all_axes[2].set_xticks(range(len(vocab)), labels, fontsize="small")
    all_axes[2].set_title(f"they add up to 1; {label}", fontsize=9)
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
                _arrow(axes, (step + 0.08, row), (step + 0.08, row - 1), is_backward=True)
        if step:
            _arrow(axes, (step - 1, 1.1), (step, 1.1))
            _arrow(axes, (step, 0.9), (step - 1, 0.9), is_backward=True)
            axes.text(step - 0.5, 0.82, r"$W_{hh}^\top$", ha="center", va="top")
        axes.text(step + 0.14, 1.5, r"$W_{hq}^\top$", va="center")
    axes.set(xlim=(-0.5, steps - 0.5), ylim=(-0.4, 3.4))
    axes.set_title("forward: solid; backward: dashed, from the losses to every earlier state")
    axes.axis("off")
    plt.show()


def clipping(gradients: Sequence[Point], theta: float) -> None:
    """Draw gradients of two parameters as arrows, before and after clipping to norm `theta`."""
    _, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    angles = np.linspace(0, 2 * np.pi, 100)
    axes.plot(theta * np.cos(angles), theta * np.sin(angles), color=INK, linestyle=":", marker="")
    axes.text(0, -theta - 0.05, "$\\theta$", ha="center", va="top")
    for index, gradient in enumerate(np.asarray(gradients)):
        clipped = gradient * min(1, theta / np.linalg.norm(gradient))
        for tip, alpha in ((gradient, 0.35), (clipped, 1)):
            style = {"arrowstyle": "->", "color": f"C{index}", "alpha": alpha, "linewidth": 2}
            axes.annotate("", tip, (0, 0), arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
    corners = np.array([*gradients, (-theta, -theta), (theta, theta)])
    axes.set(xlim=(corners[:, 0].min() - 0.4, corners[:, 0].max() + 0.4), aspect="equal")
    axes.set(ylim=(corners[:, 1].min() - 0.4, corners[:, 1].max() + 0.2))
    axes.set_title("pale: the gradient; strong: clipped")
    axes.set(xlabel="first parameter", ylabel="second parameter")
    plt.show()


def gru() -> None:
    """Draw one step of the GRU: the path of its state, and its gates with their inputs."""
    (old, keep, add, new), new_part = _STATE_PATH, (4.6, 2.0)
    reset, update, candidate = (3.1, 1.0), (1.6, 1.0), (4.6, 1.0)
    nodes = {old: "$h_{t-1}$", keep: r"$\odot$", add: "+", new: "$h_t$", new_part: r"$\odot$"}
    nodes |= {update: r"$\sigma$", reset: r"$\sigma$", candidate: "tanh"}
    arrows = [
        *((old, keep, ""), (keep, add, ""), (add, new, "")),
        *((update, keep, "$z_t$"), (update, new_part, "$1 - z_t$")),
        (reset, candidate, r"$r_t \odot h_{t-1}$"),
        *((candidate, new_part, r"$\tilde{h}_t$"), (new_part, add, "")),
    ]
    _draw_step(nodes, arrows, {"$x_t, h_{t-1}$": (update, reset), "$x_t$": (candidate,)})


def lstm() -> None:
    """Draw one step of the LSTM: the path of its cell state, and its gates with their inputs."""
    (old, keep, add, new), new_part = _STATE_PATH, (4.6, 2.0)
    forget, input_gate, candidate, output_gate = (1.6, 1.0), (3.1, 1.0), (4.6, 1.0), (6.4, 1.0)
    visible, output = (6.4, 2.0), (8.0, 2.0)
    nodes = {old: "$c_{t-1}$", keep: r"$\odot$", add: "+", new: "$c_t$", new_part: r"$\odot$"}
    nodes |= dict.fromkeys((forget, input_gate, output_gate), r"$\sigma$")
    nodes |= {candidate: "tanh", visible: r"tanh, $\odot$", output: "$h_t$"}
    arrows = [
        *((old, keep, ""), (keep, add, ""), (add, new, "")),
        *((forget, keep, "$f_t$"), (input_gate, new_part, "$i_t$")),
        *((candidate, new_part, r"$\tilde{c}_t$"), (new_part, add, "")),
        *((new, visible, ""), (output_gate, visible, "$o_t$"), (visible, output, "")),
    ]
    _draw_step(nodes, arrows, {"$x_t, h_{t-1}$": (forget, input_gate, candidate, output_gate)})


def partitions(ways: Mapping[str, Sequence[Batch]], length: int) -> None:
    """Draw each minibatch row's position in a text whose `length` tokens are consecutive integers.

    `ways` maps sampling methods to minibatches. An arrow leads from a row to its continuation in
    the next minibatch.
    """
    _, all_axes = plt.subplots(1, len(ways), figsize=(8.5, 2.4), sharey=True, layout="constrained")
    for axes, (way, batches) in zip(all_axes, ways.items()):
        for index, batch in enumerate(batches):
            for row, xs in enumerate(batch.X):
                color, middle = ROWS[row % 2], (xs[0] + xs[-1]) / 2
                axes.barh(index, len(xs), left=xs[0] - 0.5, height=0.5, color=color)
                axes.text(middle, index, f"row {row}", ha="center", va="center", color="white")
                if index and batches[index - 1].X[row][-1] + 1 == xs[0]:
                    arrow = {"arrowstyle": "->", "color": color}
                    axes.annotate("", (xs[0], index - 0.3), (xs[0], index - 0.7), arrowprops=arrow)
        axes.set(title=way, xlabel="position in the text", xlim=(-1, length))
    all_axes[0].set(ylabel="minibatch", yticks=range(max(map(len, ways.values()))))
    all_axes[0].invert_yaxis()
    plt.show()


def products(*equations: Sequence) -> None:
    """Draw matrix equations side by side, with a rectangle for each matrix.

    An equation is a title followed by operators and matrices `(name, rows, columns)`, where `rows`
    and `columns` are keys of LENGTHS.
    """
    _, axes = plt.subplots(figsize=(8.5, 2.8), layout="constrained")
    x = 0.0
    for title, *items in equations:
        axes.text(x, 1.6, title, size=11)
        for item in items:
            if isinstance(item, str):
                width = 0.5 + 0.14 * len(item)
                axes.text(x + width / 2, 0, item, ha="center", va="center", size=12)
            else:
                name, rows, columns = item
                width, height = LENGTHS[columns], LENGTHS[rows]
                axes.barh(0, width, height, left=x, color="C0", alpha=0.3)
                middle, bottom, label = x + width / 2, -height / 2 - 0.1, name and f"${name}$"
                axes.text(middle, 0, label, ha="center", va="center", size=12)
                axes.text(middle, bottom, f"$({rows}, {columns})$", ha="center", va="top", size=11)
            x += width
        x += 1.2  # space between equations
    axes.set(xlim=(-0.1, x), ylim=(-1.8, 1.9), aspect="equal")
    axes.axis("off")
    plt.show()


def states(text: str, values: np.ndarray, num_units: int = 32) -> None:
    """Draw the state after each character as a heat map of `values` (characters, H) in [-1, 1]."""
    _, axes = plt.subplots(figsize=(8.5, 3.4), layout="constrained")
    image = axes.imshow(values[:, :num_units].T, aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set(xlabel="character that was read", ylabel="hidden unit")
    axes.set_xticks(range(len(text)), [_show_space(c) for c in text])
    axes.figure.colorbar(image, label="value")
    plt.show()


def next_characters(
    text: str, probabilities: np.ndarray, vocab: Sequence[str], num_shown: int = 5
) -> None:
    """Draw the `num_shown` most likely next characters as bars, for each proper prefix of the text.

    `probabilities` has shape (characters, V). A color marks the character that actually follows.
    """
    count = len(text) - 1
    columns = -(-count // 2)
    figure, grid = plt.subplots(
        2, columns, figsize=(8.5, 3.6), sharex=True, squeeze=False, layout="constrained"
    )
    for axes in grid.flat[count:]:
        axes.axis("off")
    for axes, position in zip(grid.flat, range(count)):
        best = np.argsort(-probabilities[position])[:num_shown][::-1]
        is_next = [vocab[token] == text[position + 1] for token in best]
        colors = ["C1" if correct else "C0" for correct in is_next]
        names = [_show_space(vocab[token]) for token in best]
        axes.barh(range(len(best)), probabilities[position][best], color=colors)
        axes.set_yticks(range(len(best)), names)
        axes.set(xlim=(0, 1), xticks=(0, 1))
        prefix = text[: position + 1].replace(" ", "␣")
        axes.set_title(prefix[-10:], fontsize=9)
    figure.supxlabel("probability", fontsize=9)
    plt.show()


def _show_space(character: str) -> str:
    return "␣" if character == " " else character


def _box(axes: Axes, x: float, y: float, name: str, color: str, size: int = 11) -> Text:
    frame = {"boxstyle": "round,pad=0.5", "facecolor": "none", "edgecolor": INK}
    return axes.text(x, y, name, ha="center", va="center", color=color, size=size, bbox=frame)


def _arrow(axes: Axes, start: Point, end: Point, is_backward: bool = False) -> None:
    color, dashes = ("C3", "--") if is_backward else (INK, "-")
    style = {"arrowstyle": "->", "color": color, "linestyle": dashes, "shrinkA": 18, "shrinkB": 18}
    axes.annotate("", end, start, arrowprops=style)


def _draw_step(
    nodes: Mapping[Point, str],
    arrows: Sequence[tuple[Point, Point, str]],
    inputs: Mapping[str, Sequence[Point]],
) -> None:
    """Draw one step of a cell: labeled nodes, labeled arrows between them, and the inputs below.

    `inputs` maps labels to the nodes that read these inputs.
    """
    _, axes = plt.subplots(figsize=(8.5, 3.4), layout="constrained")
    boxes = {}
    for (x, y), name in nodes.items():
        is_function = name == "+" or ("$h" not in name and "$c" not in name)
        boxes[x, y] = _box(axes, x, y, name, INK if is_function else "C1", size=13)

    def draw(start: Point, end: Point, label: str) -> None:
        style = {"arrowstyle": "->", "color": INK, "shrinkA": 3, "shrinkB": 3}
        for side, place in (("patchA", start), ("patchB", end)):
            if place in boxes:
                style[side] = boxes[place].get_bbox_patch()  # clip the arrow at the box frames
        axes.annotate("", end, start, arrowprops=style)
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        if start[1] == end[1]:
            axes.text(x, y + 0.08, label, ha="center", va="bottom", color="C3", size=12)
        elif start[0] == end[0]:
            axes.text(x + 0.1, y, label, va="center", color="C3", size=12)
        else:
            axes.text(x - 0.1, y + 0.06, label, ha="right", va="bottom", color="C3", size=12)

    for arrow in arrows:
        draw(*arrow)
    for label, readers in inputs.items():
        for x, y in readers:
            draw((x, y - 0.9), (x, y), "")
            axes.text(x, y - 0.95, label, ha="center", va="top", color="C0", size=12)
    axes.set(xlim=(-0.6, 8.6), ylim=(-0.35, 3.4))
    axes.axis("off")
    plt.show()
