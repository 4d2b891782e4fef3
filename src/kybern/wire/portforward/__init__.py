"""port-forward on the wire: SPDY streams (alone or inside WebSocket messages) and the older WebSocket channels.

protocol.py has names and framing; channels.py serves WebSocket channel clients over a SPDY session to the runtime.
"""
