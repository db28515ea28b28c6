"""An archive of Twilio email operations that outlives the API.

Plain Python: everything here works from a script, a notebook or cron. Nothing imports Dagster; that
glue lies in ``assets``.
"""
