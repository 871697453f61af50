"""Answers: what other measures, deletions of evaluators and outcomes are computed from.

New columns are null in rows from before: ``jsdelta doctor --repair`` fills what it can. No row is rewritten.

Revision: 0007, after 0006.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SMALL = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")
BLOB: sa.types.TypeEngine[bytes] = sa.LargeBinary()
OF_SEGMENT = (
    "n_at_target", "n_at_target_adv", "n_right_adv", "confidence", "js_of_mean", "js_attacked", "member_js",
    "js_of_mean_without",
)  # fmt: skip
COLUMNS: tuple[tuple[str, str, sa.types.TypeEngine[Any]], ...] = (
    ("score", "n_right_adv", SMALL),
    ("score", "js_of_mean_without", BLOB),
    ("evaluation_baseline", "rho_of_mean_without", BLOB),
    *(("score_segment", name, BLOB) for name in OF_SEGMENT),
)
LABEL_NAME = {
    "sqlite": "json_extract(dataset.classes, '$[' || sample.{column} || ']')",
    "postgresql": "dataset.classes ->> sample.{column}",
}
# The columns of 0002, in their order, then what 0006 and this revision added.
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
       evaluation.temperature_rule AS temperature,
       sample.outside AS outside{added}
FROM score
JOIN evaluation ON evaluation.id = score.evaluation_id
JOIN attack ON attack.id = evaluation.attack_id
JOIN sample ON sample.attack_id = attack.id
           AND sample.sample_index = score.sample_index
           AND sample.requested_target = score.requested_target
JOIN model ON model.id = attack.attacked_model_id
JOIN dataset ON dataset.id = attack.dataset_id{joined}
"""
ADDED = """,
       attack.split AS split,
       attack.images AS images,
       attack.seed AS attack_seed,
       attack.target_rule AS targets,
       attack.steps AS steps,
       attack.step_size AS step_size,
       attack.restarts AS restarts,
       attack.random_start AS random_start,
       attack.stop AS stop,
       attack.device AS device,
       attack.dtype AS dtype,
       attack.library_version AS library_version,
       NULLIF(CAST(attack.attack_by AS TEXT), 'null') AS attack_by,
       trained.name AS trained_on,
       model.recipe_name AS recipe_name,
       CAST(model.recipe AS TEXT) AS recipe,
       COALESCE(model.name, CAST(model.seed AS TEXT)) AS attacked,
       judges.name AS judged_by,
       (SELECT count(*) FROM evaluation_member
        WHERE evaluation_member.evaluation_id = evaluation.id) AS n_evaluators,
       sample.requested_target AS requested_target,
       score.n_right AS n_right,
       score.n_right_adv AS n_right_adv,
       score.n_at_target AS n_at_target,
       score.n_at_target_adv AS n_at_target_adv,
       score.js_of_mean AS js_of_mean,
       sample.linf AS linf,
       sample.l2 AS l2"""
# Outer, so that SQLite leaves out those that a question does not name.
JOINED = """
LEFT JOIN dataset AS trained ON trained.id = model.dataset_id
LEFT JOIN ensemble AS judges ON judges.id = evaluation.ensemble_id"""


def upgrade() -> None:
    op.execute("DROP VIEW sample_scores")
    for table, name, kind in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        # As the other columns of segments: doubles do not shrink.
        for name in OF_SEGMENT:
            op.execute(f"ALTER TABLE score_segment ALTER COLUMN {name} SET STORAGE EXTERNAL")
    _create_view(ADDED, JOINED)


def downgrade() -> None:
    op.execute("DROP VIEW sample_scores")
    # Segments are again what 0006 made: checksums of four columns, of four bytes each.
    op.execute("UPDATE score_segment SET checksums = substr(checksums, 1, 16)")
    for table, name, _ in reversed(COLUMNS):
        op.drop_column(table, name)
    _create_view("", "")


def _create_view(added: str, joined: str) -> None:
    label_name = LABEL_NAME[op.get_bind().dialect.name]
    op.execute(
        SAMPLE_SCORES.format(
            source_label=label_name.format(column="source_label"),
            target_label=label_name.format(column="target_label"),
            added=added,
            joined=joined,
        )
    )
