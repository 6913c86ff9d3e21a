"""The embedded Postgres server, for installations without a database of their own."""
