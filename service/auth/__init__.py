"""Who may ask: a bearer token becomes a `Caller`, or the request goes no further.

Open `door.py` first: it stands before every route. `keys.py` is the file of API keys and `keyring.py` the service's
view of it, `oidc.py` reads the tokens of an OpenID Connect issuer, `rates.py` counts requests.
"""
