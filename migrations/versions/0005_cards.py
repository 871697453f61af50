"""Which card a model and a chunk come from, and the batches that a chunk was computed in.

Null in rows from before, and ``card`` on a processor.

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = (
    ("model", "card", sa.Text()),
    ("attack_chunk", "card", sa.Text()),
    ("attack_chunk", "sub_batch", sa.Integer()),
    ("evaluation_chunk", "card", sa.Text()),
    ("evaluation_chunk", "sub_batch", sa.Integer()),
)


def upgrade() -> None:
    for table, name, kind in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for table, name, _ in reversed(COLUMNS):
        op.drop_column(table, name)
