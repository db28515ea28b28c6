"""The report: one HTML page of charts and figures, made from the published warehouse.

`data` queries the warehouse, `charts` and `series` draw, `sentences` has the text, `figures` combines these,
`blocks` has what is shown of a period, and `html` makes one page that needs no network. The report reads the
warehouse alone, never the lake's files.
"""
