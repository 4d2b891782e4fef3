"""The node in the API: registration, status, heartbeats."""
