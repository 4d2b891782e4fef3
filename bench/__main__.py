"""Run the benchmarks and print their tables: `python -m bench [nginx|store ...]`, or `scale --help`."""

from __future__ import annotations

import importlib
import sys

BENCHES = ("store", "nginx", "watch", "memory", "peer", "curves", "flat", "fairness")


def main() -> None:
    if sys.argv[1:2] == ["scale"]:  # takes minutes and options of its own
        importlib.import_module("bench.scale").run(sys.argv[2:])
        return
    for name in sys.argv[1:] or BENCHES:
        print(f"== {name}", flush=True)
        rows = importlib.import_module(f"bench.{name}").run()
        width = max(map(len, rows), default=0)
        for label, value in rows.items():
            print(f"{label:{width}}  {value:,.1f}" if isinstance(value, float) else f"{label:{width}}  {value}")


if __name__ == "__main__":
    main()
