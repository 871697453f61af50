"""Networks by name, with normalization inside, and their checkpoints."""

from jsdelta_db.compute.models.checkpoint import load_checkpoint, save_checkpoint
from jsdelta_db.compute.models.inference import predict
from jsdelta_db.compute.models.zoo import ARCHITECTURES, build_model

__all__ = ["ARCHITECTURES", "build_model", "load_checkpoint", "predict", "save_checkpoint"]
