"""Who asks? One file a way to prove it; `chain.Authenticators` is the door.

`chain` (order) -> front_proxy, client_certificates, bearer -> static_tokens, service_accounts, bootstrap_tokens,
jwt_tokens (OpenID Connect, by `configuration`), webhook_tokens;
then `impersonate` (acting as somebody else). `issue` makes service account tokens, `openid` lets others check them,
`reviews` answers TokenReview and SelfSubjectReview.
"""
