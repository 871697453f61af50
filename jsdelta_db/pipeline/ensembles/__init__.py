"""Ensembles: members planned, trained once, resumed; one by one or side by side; or put together."""
