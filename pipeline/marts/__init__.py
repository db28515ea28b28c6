"""Delivery tables: one SQL file each, derived day by day."""
