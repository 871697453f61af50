"""Rows held against digests and checksums of their own, keys of images, and what an attack's steps ran on.

Digests are null in rows from before: ``jsdelta doctor --repair`` fills what it can. Segments and counts by
image are made anew, with their checksums: ``jsdelta db upgrade`` fills them from the rows afterwards.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SMALL = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")
CHECKSUM = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
COLUMNS = (
    ("attack", "image_keys", sa.LargeBinary()),
    ("attack", "prepared_as", sa.Text()),
    ("attack_chunk", "digest", sa.Text()),
    ("evaluation_chunk", "digest", sa.Text()),
    ("rho_baseline", "digest", sa.Text()),
)
COUNTS = ("success", "failure")
BLOBS = ("sample_index", "label_pair", "n_right", "js_delta")


def upgrade() -> None:
    for table, name, kind in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=True))
    _make_derived(checked=True)


def downgrade() -> None:
    _make_derived(checked=False)
    for table, name, _ in reversed(COLUMNS):
        op.drop_column(table, name)


def _make_derived(*, checked: bool) -> None:
    """Make the tables of segments and counts anew, empty; a column added later would lie behind the blobs."""
    op.drop_table("image_count")
    op.drop_table("score_segment")
    checksums = [sa.Column("checksums", sa.LargeBinary(), nullable=False)] if checked else []
    crcs = [sa.Column(name, CHECKSUM, nullable=False) for name in ("crc32", "segments_crc32") if checked]
    op.create_table(
        "score_segment",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("success", SMALL, nullable=False),
        sa.Column("js_delta_min", REAL, nullable=True),
        sa.Column("js_delta_max", REAL, nullable=True),
        *checksums,
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
        *crcs,
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
