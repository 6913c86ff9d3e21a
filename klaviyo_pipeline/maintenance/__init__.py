"""Upkeep: what has served its time and may go. Data, history, the ledger and what the UI shows of windows stay."""
