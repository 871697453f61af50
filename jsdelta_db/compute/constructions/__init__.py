"""New data sets made with attacks and trained models: D_R, D_NR, D_rand and D_det."""

from jsdelta_db.compute.constructions.build import check_ball, choose_partners, construct
from jsdelta_db.compute.constructions.sizes import configure

__all__ = ["check_ball", "choose_partners", "configure", "construct"]
