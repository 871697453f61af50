"""Facts: what is recorded of attacks, attacked models and judges; conditions on them, and their values."""
