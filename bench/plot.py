"""Ratios as a picture: one bar a figure, the goal as a mark. Needs matplotlib; without it there is only the text."""

from __future__ import annotations

from pathlib import Path


def ratios(figures: dict[str, tuple[float, float]], target: Path) -> None:
    """`figures`: name -> (ratio, goal). Writes a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no picture: matplotlib is not installed (pip install matplotlib writes {target})")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    names = list(figures)[::-1]
    figure = Figure(figsize=(8, 0.5 * len(names) + 1), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, [figures[name][0] for name in names], color="#4472a8")
    for at, name in enumerate(names):
        axes.plot([figures[name][1]] * 2, [at - 0.4, at + 0.4], color="#b03030")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("times better than kube-apiserver (red: the goal)")
    figure.savefig(target, dpi=120)
    print(f"drawn: {target}")
