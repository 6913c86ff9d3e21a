"""The write path: from a DataFrame to rows, in one transaction with the ledger.

`io_manager` takes what an asset returns (`loads`), `writer` writes it batch by batch, `merge` writes what differs.
"""
