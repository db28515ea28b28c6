"""The report: one page of pictures and figures, made of the published warehouse.

`facts` asks the warehouse, `charts` draws what it answers, `sentences` says it in words, and `page` puts
both into one file that needs no network. `pictures` has the same charts as PNG. Nothing here knows the
lake's files: what SQL can't tell, the report does not show.
"""
