"""The report: one HTML page of charts and figures, made from the published warehouse.

`data` queries the warehouse, `charts` draws, `sentences` has the text, `figures` combines both, and `html`
makes one page that needs no network. `png` draws the same charts as PNG. The report reads the warehouse
alone, never the lake's files.
"""
