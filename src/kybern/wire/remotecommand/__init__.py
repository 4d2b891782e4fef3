"""exec and attach on the wire: standard streams of a container, over WebSocket channels or SPDY streams.

protocol.py has the names and the status of a finished command, server.py answers a client of either kind with
one `CommandStreams`, client.py plays the client towards a container runtime, bridge.py joins the two.
"""
