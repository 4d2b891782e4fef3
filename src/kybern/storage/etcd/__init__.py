"""The store in an etcd cluster: see store.EtcdStore."""

from kybern.storage.etcd.client import Endpoints
from kybern.storage.etcd.store import EtcdStore

__all__ = ["Endpoints", "EtcdStore"]
