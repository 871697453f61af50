"""Finished evaluations once more as column segments and counts by image, which queries read instead of rows.

Both tables start empty: ``jsdelta db upgrade`` fills them from the rows afterwards.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SMALL = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
COUNTS = ("success", "failure")
BLOBS = ("sample_index", "label_pair", "n_right", "js_delta")


def upgrade() -> None:
    op.create_table(
        "score_segment",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("success", SMALL, nullable=False),
        sa.Column("js_delta_min", REAL, nullable=True),
        sa.Column("js_delta_max", REAL, nullable=True),
        *(sa.Column(name, sa.LargeBinary(), nullable=False) for name in BLOBS),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_score_segment_evaluation_id")
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name=op.f("pk_score_segment")),
        sqlite_strict=True,
    )
    op.create_table(
        "image_count",
        sa.Column("evaluation_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n_undefined", sa.Integer(), nullable=False),
        sa.Column("bits", SMALL, nullable=False),
        *(sa.Column(name, sa.LargeBinary(), nullable=False) for name in COUNTS),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_image_count_evaluation_id")
        ),
        sa.PrimaryKeyConstraint("evaluation_id", name=op.f("pk_image_count")),
        sqlite_strict=True,
    )
    if op.get_bind().dialect.name == "postgresql":
        # Doubles and bits do not shrink; trying costs more time than reading them.
        for table, names in (("score_segment", BLOBS), ("image_count", COUNTS)):
            for name in names:
                op.execute(f"ALTER TABLE {table} ALTER COLUMN {name} SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("image_count")
    op.drop_table("score_segment")
