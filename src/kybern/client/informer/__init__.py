"""Informers: a local, indexed, read-only copy of what the API server holds, kept current by watches.

    reflector (list + watch) -> informer (store, own writes, handlers) -> workqueue -> reconcile

`Informers(client, clock).of(Pod)` gives the one Informer for that kind and selection; `run` keeps all of them going.
"""

from kybern.client.informer.informer import Informer
from kybern.client.informer.shared import Informers

__all__ = ["Informer", "Informers"]
