"""Rows that are held against digests of their own, keys of images, and what an attack's steps ran on.

All is null in rows from before: ``jsdelta doctor --repair`` fills what it can.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = (
    ("attack", "image_keys", sa.LargeBinary()),
    ("attack", "prepared_as", sa.Text()),
    ("attack_chunk", "digest", sa.Text()),
    ("evaluation_chunk", "digest", sa.Text()),
    ("rho_baseline", "digest", sa.Text()),
    ("score_segment", "crc32", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
    ("image_count", "crc32", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
)


def upgrade() -> None:
    for table, name, kind in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for table, name, _ in reversed(COLUMNS):
        op.drop_column(table, name)
