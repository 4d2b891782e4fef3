"""Throw requests at an API server until something breaks: `python -m tools.fuzz --requests 100000`.

Two sources: schema_cases (schemathesis on the server's own OpenAPI) and raw_cases (valid requests, broken in JSON or in
bytes). `child` is the server, on a memory store without TLS; `client` sends; `judge` says what is a finding: a 500, an
answer that does not come, a server that ends. Every raw request is made of the seed and its number alone, so that a run
can be resumed and one request repeated (`--only N`).
"""
