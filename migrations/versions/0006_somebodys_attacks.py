"""Somebody's attacks: which one made the samples, which of these lie beyond ε, and what they cost.

Null in rows from before, and of our own attacks; a chunk's passes, of our own attacks too, from now on.

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SMALL = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")
COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COLUMNS = (
    ("attack", "attack_by", sa.JSON()),
    ("attack_chunk", "forward_passes", COUNT),
    ("attack_chunk", "backward_passes", COUNT),
    ("sample", "outside", SMALL),
)
LABEL_NAME = {
    "sqlite": "json_extract(dataset.classes, '$[' || sample.{column} || ']')",
    "postgresql": "dataset.classes ->> sample.{column}",
}
# The columns of 0002, in their order; {added} stands where a revision adds its own.
SAMPLE_SCORES = """
CREATE VIEW sample_scores AS
SELECT dataset.name AS dataset,
       model.method AS method,
       model.architecture AS architecture,
       model.seed AS seed,
       model.uid AS model,
       attack.uid AS attack,
       evaluation.uid AS evaluation,
       attack.norm AS norm,
       attack.eps AS eps,
       sample.sample_index AS sample_index,
       {source_label} AS source_label,
       {target_label} AS target_label,
       sample.success AS success,
       sample.confidence AS confidence,
       score.js AS js,
       score.js_delta AS js_delta,
       score.js_attacked AS js_attacked,
       sample.stability AS stability,
       attack.objective AS objective,
       attack.library AS library,
       evaluation.temperature_rule AS temperature{added}
FROM score
JOIN evaluation ON evaluation.id = score.evaluation_id
JOIN attack ON attack.id = evaluation.attack_id
JOIN sample ON sample.attack_id = attack.id
           AND sample.sample_index = score.sample_index
           AND sample.requested_target = score.requested_target
JOIN model ON model.id = attack.attacked_model_id
JOIN dataset ON dataset.id = attack.dataset_id
"""


def upgrade() -> None:
    for table, name, kind in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=True))
    # Of none but the samples that lie outside: queries count these, and there are few.
    op.create_index(
        "ix_sample_outside",
        "sample",
        ["attack_id"],
        sqlite_where=sa.text("outside = 1"),
        postgresql_where=sa.text("outside = 1"),
    )
    op.execute("DROP VIEW sample_scores")
    _create_view(",\n       sample.outside AS outside")


def downgrade() -> None:
    op.execute("DROP VIEW sample_scores")
    op.drop_index("ix_sample_outside", "sample")
    for table, name, _ in reversed(COLUMNS):
        op.drop_column(table, name)
    _create_view("")


def _create_view(added: str) -> None:
    label_name = LABEL_NAME[op.get_bind().dialect.name]
    op.execute(
        SAMPLE_SCORES.format(
            source_label=label_name.format(column="source_label"),
            target_label=label_name.format(column="target_label"),
            added=added,
        )
    )
