"""What the store's readers need to know without loading the schema."""

VERSION_TABLE = "jsdelta_alembic_version"  # MLflow and Optuna both use alembic_version
HEAD_REVISION = "0003"  # a test holds it against Alembic's own head

# A run-like row's life; an interrupted one goes back to pending.
PENDING, RUNNING, FINISHED, FAILED = "pending", "running", "finished", "failed"
