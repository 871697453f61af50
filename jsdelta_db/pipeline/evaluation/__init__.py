"""One attack and its evaluators: roles, plan, work chunk by chunk, controls."""
