"""How many emails are delivered and opened by each age: a summary of `delivery_curve`."""

from pipeline.lake import engine
from pipeline.model.schema import AGES


def delivery_by_age(curves: str) -> str:
    """The query of the bounds by account and age.

    Args:
        curves: a query of rows of `delivery_curve`. Each hour of creation must come with all its ages.
    """
    _, last_age = AGES[-1]
    query = engine.sql("pipeline.access", "delivery_by_age")
    return engine.render(query, curves=curves, last_age=str(last_age))
