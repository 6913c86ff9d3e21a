"""What an installation is configured with: environment variables, settings, and the entries of accounts.yaml.

- `variables`: the environment variables as data.
- `settings`: reads and checks them.
- `accounts`: the same for several accounts, from accounts.yaml.
"""
