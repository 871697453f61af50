"""Control names: the outcomes that are stored of an evaluation, in the order in which queries show them."""

# Verdicts on the evaluators, stored with every evaluation: each has learned something, none is a copy.
EVALUATOR_ACCURACY, FOLLOWS_ATTACKED = JUDGES = ("evaluator_accuracy", "follows_attacked")
# Pairs with a known answer, where they were asked for.
(
    IDENTITY,
    NOISE_JS_DELTA,
    NOISE_SUCCESS,
    CLEAN_PAIRS,
    ATTACKED_AMONG_EVALUATORS,
    ATTACKED_AMONG_EVALUATORS_BUGS,
    JOINT_ATTACK,
    JOINT_ATTACK_SUCCESS,
    BUG_SEEKING,
) = PAIRS = (
    "identity",
    "noise_js_delta",
    "noise_success",
    "clean_pairs",
    "attacked_among_evaluators",
    "attacked_among_evaluators_bugs",
    "joint_attack",
    "joint_attack_success",
    "bug_seeking",
)
CONTROLS = (*JUDGES, *PAIRS)
# Algebra makes these hold whatever the models are: they test the code, and the others the evaluation.
IDENTITIES = (IDENTITY, ATTACKED_AMONG_EVALUATORS, ATTACKED_AMONG_EVALUATORS_BUGS)
# The paper's Assumption 3.2, of the evaluators: they agree on clean images (stored with every evaluation) …
AGREEMENT_LABEL, AGREEMENT_JS, ACCURACY_SPREAD = AGREEMENT = (
    "agreement_label",
    "agreement_js",
    "accuracy_spread",
)
# … and are invariant to label-preserving changes.
INVARIANCE_FLIP, INVARIANCE_SHIFT, INVARIANCE_NOISE = INVARIANCE = (
    "invariance_flip",
    "invariance_shift",
    "invariance_noise",
)
ASSUMPTIONS = (*AGREEMENT, *INVARIANCE)
