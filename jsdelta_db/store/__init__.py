"""The store: schema, sessions, leases, what is written and what is asked."""
