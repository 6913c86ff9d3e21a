"""The schema of an account: the migrations that make it, its tables as the code reads them, views over accounts."""
