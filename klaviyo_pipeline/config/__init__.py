"""The configuration of an installation: environment variables, settings, and the entries of accounts.yaml.

- `variables`: the environment variables as data.
- `settings`: reads and checks the variables.
- `accounts`: reads and checks the settings of several accounts from accounts.yaml.
"""
