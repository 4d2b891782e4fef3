"""How long one request of one authenticated client keeps all others waiting: `python -m tools.holds [NAME...]`.

`cases` names the requests, each with what must be there before it; `probe` asks for a small object all the while and
keeps the longest wait. The server is tools/fuzz/child, one for each case.
"""
