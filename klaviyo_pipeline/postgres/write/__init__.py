"""The write path: from a DataFrame to rows, in one transaction with the ledger.

`io_manager` receives an asset's output (`loads`). `writer` writes it batch by batch. `merge` writes only rows that
differ.
"""
