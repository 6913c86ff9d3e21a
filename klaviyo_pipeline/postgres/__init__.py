"""The warehouse: connections to Postgres, the schema of an account, and its system tables.

- `engine` and `warehouse` open connections. `server` runs the embedded server.
- `schema` has the migrations and the tables as the code sees them. `write` is the write path.
- The other modules query the schema, most of them one system table, such as `ledger` and `shared_pacing`.
"""
