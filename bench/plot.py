"""Figures as pictures: ratios as bars with their goals, costs as curves. Needs matplotlib; else there is only text."""

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


def curves(figures: dict[str, tuple[str, dict[int, float], dict[int, float]]], target: Path) -> None:
    """`figures`: name -> (unit, ours by number of objects, kube-apiserver's). Writes a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no picture: matplotlib is not installed (pip install matplotlib writes {target})")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = (len(figures) + 2) // 3
    figure = Figure(figsize=(12, 2.8 * rows), layout="constrained")
    for number, (name, (unit, ours, theirs)) in enumerate(figures.items(), 1):
        axes = figure.add_subplot(rows, 3, number)
        for label, points, colour in (("Kybern", ours, "#4472a8"), ("kube-apiserver", theirs, "#b03030")):
            if points:
                sizes = sorted(points)
                axes.plot(sizes, [points[size] for size in sizes], "o-", color=colour, label=label)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_title(f"{name}, {unit}", fontsize=9)
        if number == 1:
            axes.legend(fontsize=8)
    figure.supxlabel("pods in the store")
    figure.savefig(target, dpi=120)
    print(f"drawn: {target}")
