"""The embedded Postgres server, for installations without their own database."""
