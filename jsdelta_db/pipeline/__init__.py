"""READ FIRST. The verbs: train, attack, score; build a data set, add a model.

One sample's walk through ``attack.py``: a user's references become rows of models (``evaluation/roles.py``);
where all is there already, rows answer (``evaluation/finished.py``); else the models are opened → an attack,
an evaluation and their chunks become rows (``evaluation/plan.py``) → chunk by chunk (``evaluation/work.py``)
a source gives samples (``evaluation/sources.py``), made by ``compute.attacks`` or read from files, and the
evaluators' logits on ``x`` and ``x_adv`` (``evaluation/judge.py``) give JSΔ (``compute.metrics``), divided
by what a real change from y to t does to them → a file and rows (``samples/chunks.py``) → ``queries.bugs``
counts the bugs.

Files come before rows, and perturbations are rounded to the stored precision before success is checked and
scored: what is stored is what was judged.
"""
