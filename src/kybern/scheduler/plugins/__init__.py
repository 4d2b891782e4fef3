"""The rules of placement: one file a rule, each a decorated function over columns.

`contract` says what a filter and a score are; `kybern.scheduler.profile` puts them in order and gives them weights.
"""
