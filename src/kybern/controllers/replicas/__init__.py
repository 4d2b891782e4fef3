"""Keep so many pods of one template: what ReplicaSets and ReplicationControllers share."""
