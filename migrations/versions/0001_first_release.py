"""All tables of the first release, and the view ``sample_scores``.

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
SMALL: sa.types.TypeEngine[int] = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")

LABEL_NAME = {
    "sqlite": "json_extract(dataset.classes, '$[' || sample.{column} || ']')",
    "postgresql": "dataset.classes ->> sample.{column}",
}
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
       score.js_delta AS js_delta
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
    op.create_table(
        "dataset",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("construction", sa.JSON(), nullable=True),
        sa.Column("seed", sa.Integer(), nullable=True),
        sa.Column("uri", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mlflow_run_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("heartbeat_at", REAL, nullable=True),
        sa.ForeignKeyConstraint(["parent_id"], ["dataset.id"], name=op.f("fk_dataset_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
        sa.UniqueConstraint("uid", name=op.f("uq_dataset_uid")),
    )
    op.create_index(op.f("ix_dataset_config_hash"), "dataset", ["config_hash"], unique=False)
    op.create_table(
        "ensemble",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mlflow_run_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("heartbeat_at", REAL, nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_ensemble_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ensemble")),
        sa.UniqueConstraint("uid", name=op.f("uq_ensemble_uid")),
    )
    op.create_index(op.f("ix_ensemble_config_hash"), "ensemble", ["config_hash"], unique=False)
    op.create_index(op.f("ix_ensemble_name"), "ensemble", ["name"], unique=False)
    op.create_table(
        "model",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("recipe_name", sa.Text(), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("checkpoint_uri", sa.Text(), nullable=True),
        sa.Column("checkpoint_sha256", sa.Text(), nullable=True),
        sa.Column("clean_accuracy", REAL, nullable=True),
        sa.Column("sharpness", REAL, nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("dtype", sa.Text(), nullable=True),
        sa.Column("threads", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mlflow_run_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("heartbeat_at", REAL, nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_model_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model")),
        sa.UniqueConstraint("id", "checkpoint_sha256", name=op.f("uq_model_id_checkpoint_sha256")),
        sa.UniqueConstraint("uid", name=op.f("uq_model_uid")),
    )
    op.create_index(op.f("ix_model_config_hash"), "model", ["config_hash"], unique=False)
    op.create_table(
        "attack",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("attacked_model_id", sa.Integer(), nullable=False),
        sa.Column("attacked_sha256", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("norm", sa.Text(), nullable=False),
        sa.Column("eps", REAL, nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("step_size", REAL, nullable=False),
        sa.Column("random_start", sa.Boolean(), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("target_rule", sa.Text(), nullable=False),
        sa.Column("objective", sa.Text(), nullable=False),
        sa.Column("stop", sa.Text(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=True),
        sa.Column("library", sa.Text(), nullable=False),
        sa.Column("library_version", sa.Text(), nullable=False),
        sa.Column("chunk_size", sa.Integer(), nullable=False),
        sa.Column("n_images", sa.Integer(), nullable=False),
        sa.Column("n_skipped", sa.Integer(), nullable=False),
        sa.Column("n_attempts", sa.Integer(), nullable=False),
        sa.Column("requested_device", sa.Text(), nullable=False),
        sa.Column("requested_dtype", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("artifact_uri", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mlflow_run_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["attacked_model_id", "attacked_sha256"],
            ["model.id", "model.checkpoint_sha256"],
            name=op.f("fk_attack_attacked_model_id_attacked_sha256"),
        ),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_attack_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attack")),
        sa.UniqueConstraint("id", "attacked_sha256", name=op.f("uq_attack_id_attacked_sha256")),
        sa.UniqueConstraint("uid", name=op.f("uq_attack_uid")),
    )
    op.create_index(op.f("ix_attack_attacked_model_id"), "attack", ["attacked_model_id"], unique=False)
    op.create_index(op.f("ix_attack_config_hash"), "attack", ["config_hash"], unique=False)
    op.create_table(
        "ensemble_member",
        sa.Column("ensemble_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ensemble_id"], ["ensemble.id"], name=op.f("fk_ensemble_member_ensemble_id")
        ),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_ensemble_member_model_id")),
        sa.PrimaryKeyConstraint("ensemble_id", "position", name=op.f("pk_ensemble_member")),
    )
    op.create_index(op.f("ix_ensemble_member_model_id"), "ensemble_member", ["model_id"], unique=False)
    op.create_table(
        "model_logits",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_model_logits_dataset_id")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_model_logits_model_id")),
        sa.PrimaryKeyConstraint("model_id", "dataset_id", "split", name=op.f("pk_model_logits")),
    )
    op.create_table(
        "model_metric",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("norm", sa.Text(), nullable=False),
        sa.Column("eps", REAL, nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("value", REAL, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_model_metric_dataset_id")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_model_metric_model_id")),
        sa.PrimaryKeyConstraint(
            "model_id", "dataset_id", "split", "name", "norm", "eps", "steps", name=op.f("pk_model_metric")
        ),
    )
    op.create_table(
        "rho_baseline",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("temperature_rule", sa.Text(), nullable=False),
        sa.Column("label_low", SMALL, nullable=False),
        sa.Column("label_high", SMALL, nullable=False),
        sa.Column("rho", REAL, nullable=False),
        sa.Column("standard_error", REAL, nullable=True),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("n_low", sa.Integer(), nullable=False),
        sa.Column("image_means", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_rho_baseline_dataset_id")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_rho_baseline_model_id")),
        sa.PrimaryKeyConstraint(
            "model_id",
            "dataset_id",
            "split",
            "temperature_rule",
            "label_low",
            "label_high",
            name=op.f("pk_rho_baseline"),
        ),
    )
    op.create_table(
        "attack_chunk",
        sa.Column("attack_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("n_attempts", sa.Integer(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("heartbeat_at", REAL, nullable=True),
        sa.ForeignKeyConstraint(["attack_id"], ["attack.id"], name=op.f("fk_attack_chunk_attack_id")),
        sa.PrimaryKeyConstraint("attack_id", "position", name=op.f("pk_attack_chunk")),
    )
    op.create_table(
        "attack_surrogate",
        sa.Column("attack_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["attack_id"], ["attack.id"], name=op.f("fk_attack_surrogate_attack_id")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_attack_surrogate_model_id")),
        sa.PrimaryKeyConstraint("attack_id", "position", name=op.f("pk_attack_surrogate")),
    )
    op.create_table(
        "evaluation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("attack_id", sa.Integer(), nullable=False),
        sa.Column("attacked_sha256", sa.Text(), nullable=False),
        sa.Column("ensemble_id", sa.Integer(), nullable=True),
        sa.Column("temperature_rule", sa.Text(), nullable=False),
        sa.Column("baseline_rule", sa.Text(), nullable=False),
        sa.Column("artifact_uri", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mlflow_run_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("heartbeat_at", REAL, nullable=True),
        sa.ForeignKeyConstraint(
            ["attack_id", "attacked_sha256"],
            ["attack.id", "attack.attacked_sha256"],
            name=op.f("fk_evaluation_attack_id_attacked_sha256"),
        ),
        sa.ForeignKeyConstraint(["ensemble_id"], ["ensemble.id"], name=op.f("fk_evaluation_ensemble_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation")),
        sa.UniqueConstraint("id", "attacked_sha256", name=op.f("uq_evaluation_id_attacked_sha256")),
        sa.UniqueConstraint("uid", name=op.f("uq_evaluation_uid")),
    )
    op.create_index(op.f("ix_evaluation_attack_id"), "evaluation", ["attack_id"], unique=False)
    op.create_index(op.f("ix_evaluation_config_hash"), "evaluation", ["config_hash"], unique=False)
    op.create_table(
        "sample",
        sa.Column("attack_id", sa.Integer(), nullable=False),
        sa.Column("sample_index", sa.Integer(), nullable=False),
        sa.Column("requested_target", SMALL, nullable=False),
        sa.Column("source_label", SMALL, nullable=False),
        sa.Column("target_label", SMALL, nullable=False),
        sa.Column("success", SMALL, nullable=False),
        sa.Column("confidence", REAL, nullable=False),
        sa.Column("linf", REAL, nullable=True),
        sa.Column("l2", REAL, nullable=True),
        sa.Column("stability", REAL, nullable=True),
        sa.CheckConstraint("success IN (0, 1)", name=op.f("ck_sample_success")),
        sa.ForeignKeyConstraint(["attack_id"], ["attack.id"], name=op.f("fk_sample_attack_id")),
        sa.PrimaryKeyConstraint("attack_id", "sample_index", "requested_target", name=op.f("pk_sample")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "control_result",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", REAL, nullable=True),
        sa.Column("low", REAL, nullable=True),
        sa.Column("high", REAL, nullable=True),
        sa.Column("passed", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_control_result_evaluation_id")
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "name", name=op.f("pk_control_result")),
    )
    op.create_table(
        "evaluation_baseline",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("label_low", SMALL, nullable=False),
        sa.Column("label_high", SMALL, nullable=False),
        sa.Column("rho", REAL, nullable=False),
        sa.Column("rho_of_mean", REAL, nullable=False),
        sa.Column("standard_error", REAL, nullable=True),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_evaluation_baseline_evaluation_id")
        ),
        sa.PrimaryKeyConstraint(
            "evaluation_id", "label_low", "label_high", name=op.f("pk_evaluation_baseline")
        ),
    )
    op.create_table(
        "evaluation_chunk",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("n_attempts", sa.Integer(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("heartbeat_at", REAL, nullable=True),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_evaluation_chunk_evaluation_id")
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name=op.f("pk_evaluation_chunk")),
    )
    op.create_table(
        "evaluation_member",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("model_sha256", sa.Text(), nullable=False),
        sa.Column("attacked_sha256", sa.Text(), nullable=False),
        sa.Column("temperature", REAL, nullable=False),
        sa.CheckConstraint("model_sha256 <> attacked_sha256", name=op.f("ck_evaluation_member_not_attacked")),
        sa.ForeignKeyConstraint(
            ["evaluation_id", "attacked_sha256"],
            ["evaluation.id", "evaluation.attacked_sha256"],
            name=op.f("fk_evaluation_member_evaluation_id_attacked_sha256"),
        ),
        sa.ForeignKeyConstraint(
            ["model_id", "model_sha256"],
            ["model.id", "model.checkpoint_sha256"],
            name=op.f("fk_evaluation_member_model_id_model_sha256"),
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name=op.f("pk_evaluation_member")),
        sa.UniqueConstraint(
            "evaluation_id", "model_sha256", name=op.f("uq_evaluation_member_evaluation_id_model_sha256")
        ),
    )
    op.create_table(
        "score",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("sample_index", sa.Integer(), nullable=False),
        sa.Column("requested_target", SMALL, nullable=False),
        sa.Column("js", REAL, nullable=False),
        sa.Column("js_of_mean", REAL, nullable=False),
        sa.Column("js_delta", REAL, nullable=True),
        sa.Column("js_attacked", REAL, nullable=False),
        sa.Column("n_right", SMALL, nullable=False),
        sa.Column("n_at_target", SMALL, nullable=False),
        sa.Column("n_at_target_adv", SMALL, nullable=False),
        sa.Column("member_js", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluation.id"], name=op.f("fk_score_evaluation_id")),
        sa.PrimaryKeyConstraint("evaluation_id", "sample_index", "requested_target", name=op.f("pk_score")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    label_name = LABEL_NAME[op.get_bind().dialect.name]
    op.execute(
        SAMPLE_SCORES.format(
            source_label=label_name.format(column="source_label"),
            target_label=label_name.format(column="target_label"),
        )
    )


def downgrade() -> None:
    op.execute("DROP VIEW sample_scores")
    op.drop_table("score")
    op.drop_table("evaluation_member")
    op.drop_table("evaluation_chunk")
    op.drop_table("evaluation_baseline")
    op.drop_table("control_result")
    op.drop_table("sample")
    op.drop_index(op.f("ix_evaluation_config_hash"), table_name="evaluation")
    op.drop_index(op.f("ix_evaluation_attack_id"), table_name="evaluation")
    op.drop_table("evaluation")
    op.drop_table("attack_surrogate")
    op.drop_table("attack_chunk")
    op.drop_table("rho_baseline")
    op.drop_table("model_metric")
    op.drop_table("model_logits")
    op.drop_index(op.f("ix_ensemble_member_model_id"), table_name="ensemble_member")
    op.drop_table("ensemble_member")
    op.drop_index(op.f("ix_attack_config_hash"), table_name="attack")
    op.drop_index(op.f("ix_attack_attacked_model_id"), table_name="attack")
    op.drop_table("attack")
    op.drop_index(op.f("ix_model_config_hash"), table_name="model")
    op.drop_table("model")
    op.drop_index(op.f("ix_ensemble_name"), table_name="ensemble")
    op.drop_index(op.f("ix_ensemble_config_hash"), table_name="ensemble")
    op.drop_table("ensemble")
    op.drop_index(op.f("ix_dataset_config_hash"), table_name="dataset")
    op.drop_table("dataset")
