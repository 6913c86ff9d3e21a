"""The schema of an account: its migrations, its tables as the code sees them, and the views over all accounts."""
