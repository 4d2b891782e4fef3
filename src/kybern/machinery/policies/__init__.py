"""Admission policies as programs: what their expressions may name, and all expressions of a policy compiled.

    environments.py   the variables of admission: object, request, params, variables, ...
    programs.py       a policy -> programs, and what is wrong with those that are none

Read by machinery/validation (is it a policy?) and by apiserver/admission (what does it say?). Pure.
"""
