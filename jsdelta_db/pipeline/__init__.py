"""READ FIRST. The verbs: train, attack, score, build a data set, add a model."""
