"""Benchmarks: `make bench`. Rates are ratios within one run, beside a peer on the same machine."""
