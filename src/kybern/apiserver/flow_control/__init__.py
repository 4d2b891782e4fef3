"""API priority and fairness: which requests run now, which wait, which are refused.

    classify   a request's flow schema, and what tells its flow from others (pure)
    bootstrap  the objects every cluster has (pure)
    work       how many seats a request takes (pure)
    shares     seats of each priority level, and what idle levels lend (pure)
    demand     how many seats a level could have used lately (pure)
    shuffle    the few queues that a flow may use (pure)
    queues     one level's fair queues in virtual time (pure)
    level      one priority level: its queues and what it counted
    turns      heavy reads, one in a turn of the loop
    control    the step of the pipeline that uses all of these
    upkeep     objects and conditions kept as they must be, seats moved to where they are asked for
    debug      /debug/api_priority_and_fairness
    numbers    apiserver_flowcontrol_* metrics

Source: KEP-1040 and "API Priority and Fairness" of the Kubernetes documentation; numbers are those of v1.36.
"""
