"""The reading page: its files, and the sessions of the people who sign in to it.

Open `page_routes.py` first. `static_files.py` sends what `web/` was built into, `sign_in.py` makes a session of an API
key or of an issuer's answer (`code_flow.py`), `sessions.py` knows sessions by their cookies, and `session_store.py`
keeps them in the audit log's database.
"""
