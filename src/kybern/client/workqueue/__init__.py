"""Which keys are to be worked on, each by one worker at a time, failures later and later.

add / add_after / add_rate_limited -> core (pure) -> queue (waits) -> get ... done
"""

from kybern.client.workqueue.core import Metrics, RateLimit
from kybern.client.workqueue.queue import WorkQueue

__all__ = ["Metrics", "RateLimit", "WorkQueue"]
