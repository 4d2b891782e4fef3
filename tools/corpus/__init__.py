"""A corpus of writes, valid and broken in one place, to compare two API servers by.

    seeds/*.yaml  ->  seeds  ->  generate  ->  ask (a server's answers)  ->  compare (two servers' answers)

`record` is the command: it asks a reference server and writes the sample that tests/unit/machinery/validation replays.
"""
