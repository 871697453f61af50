"""Precision: float32 arithmetic computed in float32, and by the same kernels each time.

torch's switches are the process's, and code of a user's that it imports may turn them: a training script
that allows TF32 or bfloat16 "for speed" would change what attacks and scores are computed in.
"""

import torch

IEEE = "ieee"
# By backend the operations that have a switch of their own since torch 2.9. A processor's too: oneDNN
# multiplies float32 matrices in bfloat16 after set_float32_matmul_precision("medium").
OPERATIONS = {"cuda": ("matmul",), "cudnn": ("conv", "rnn"), "mkldnn": ("matmul", "conv", "rnn")}


def keep_float32() -> None:
    """Turn every switch of torch's so that float32 is computed in float32, and no kernels race.

    Called when a device is chosen, after code of a user's has run, and before samples are made or judged.
    """
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    # The old switches first: torch refuses to read them where they contradict the new ones.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    if not hasattr(torch.backends, "fp32_precision"):
        return
    torch.backends.fp32_precision = IEEE
    for name, operations in OPERATIONS.items():
        backend = getattr(torch.backends, name)
        for switch in (backend, *(getattr(backend, each, None) for each in operations)):
            if hasattr(switch, "fp32_precision"):
                switch.fp32_precision = IEEE
