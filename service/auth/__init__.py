"""Who may ask: a bearer token becomes a `Caller`, or the request goes no further.

Open `middleware.py` first: it stands before every route. `api_keys.py` is the file of API keys and `keyring.py` the
service's view of it, `oidc.py` reads the tokens of an OpenID Connect issuer, `rate_limits.py` counts requests.
"""
