"""How runs are launched, where it is not on the daemon's own machine. Only `dagster.yaml` names what is here."""
