"""Added models, attacks without stored perturbations, and more columns of the view.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LABEL_NAME = {
    "sqlite": "json_extract(dataset.classes, '$[' || sample.{column} || ']')",
    "postgresql": "dataset.classes ->> sample.{column}",
}
# The columns of 0001, in their order; {added} stands where a revision adds its own.
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
       score.js_delta AS js_delta{added}
FROM score
JOIN evaluation ON evaluation.id = score.evaluation_id
JOIN attack ON attack.id = evaluation.attack_id
JOIN sample ON sample.attack_id = attack.id
           AND sample.sample_index = score.sample_index
           AND sample.requested_target = score.requested_target
JOIN model ON model.id = attack.attacked_model_id
JOIN dataset ON dataset.id = attack.dataset_id
"""
ADDED = """,
       score.js_attacked AS js_attacked,
       sample.stability AS stability,
       attack.objective AS objective,
       attack.library AS library,
       evaluation.temperature_rule AS temperature"""


def upgrade() -> None:
    op.add_column("model", sa.Column("name", sa.Text(), nullable=True))
    op.add_column(
        "attack", sa.Column("keeps_samples", sa.Boolean(), nullable=False, server_default=sa.true())
    )
    op.execute("DROP VIEW sample_scores")
    _create_view(ADDED)


def downgrade() -> None:
    op.execute("DROP VIEW sample_scores")
    op.drop_column("attack", "keeps_samples")
    op.drop_column("model", "name")
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
