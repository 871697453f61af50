"""Finished evaluations once more as column segments, which queries read instead of rows.

The table starts empty: ``jsdelta db upgrade`` fills it from the rows afterwards.

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
    if op.get_bind().dialect.name == "postgresql":
        # Doubles do not shrink; trying costs more time than reading them.
        for name in BLOBS:
            op.execute(f"ALTER TABLE score_segment ALTER COLUMN {name} SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("score_segment")
