"""SPDY/3.1, the framing under Kubernetes' older exec, attach and port-forward: headers, frames, session, connection."""
