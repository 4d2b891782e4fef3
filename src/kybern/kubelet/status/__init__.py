"""The status of pods: generated from facts, sent to the API server."""
