"""Storage version migration: every object of a resource is written once more, as the server stores it now.

plan.py       which resource, and the conditions that tell how far it is: pure
reconcile.py  one migration: list, touch each object, tell
"""

from kybern.controllers.storage_version_migration.reconcile import build as build
