"""What is made of the lake for others: the warehouse."""
