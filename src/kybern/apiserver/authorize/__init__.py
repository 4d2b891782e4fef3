"""May they? `chain.Authorizers` is the door: system:masters, then `node`, then `rbac`.

`attributes` is the question and the answer, `rules` the meaning of a rule. `escalation` guards the writing of roles,
`aggregation` unites them, `bootstrap_roles` (tables in default_roles/) are those of a new cluster, `reviews` answers
the access reviews. `references` tells what a pod needs.
"""
