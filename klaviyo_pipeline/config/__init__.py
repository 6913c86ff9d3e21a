"""The configuration of an installation, from environment variables and accounts.yaml.

- `variables` declares the environment variables.
- `settings` reads and checks the settings of one account from the environment.
- `accounts` reads and checks the settings of several accounts from accounts.yaml.
"""
