"""The warehouse: its connections, and the system tables of an account's schema.

- `engine`, `warehouse`: connections. `server`: the embedded server.
- `schema`: migrations, and what they made. `write`: the write path.
- `ledger`, `census_runs`, `account_binding`, `shared_pacing`, `api_calls`: one system table each.
"""
