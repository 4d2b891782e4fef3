"""Admission webhooks: servers of users that may change or refuse a write.

plugin asks them; configurations says which there are, review what is sent, answer what comes back, versions how an
object looks in the version that a webhook wants. The call itself is apiserver/webhooks/client.
"""
