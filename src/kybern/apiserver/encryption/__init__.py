"""Encryption at rest: what is written into the store is no plain text.

`configuration` (the file) -> `rules` (which resource, which keys) -> `transformers` (one kind of cipher each) ->
`store` (a Store that encrypts and decrypts on the way).
Source: "Encrypting Confidential Data at Rest" in the Kubernetes documentation.
"""
