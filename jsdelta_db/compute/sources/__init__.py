"""Sources of a user's images: arrays, folders and factories, decoded once and divided into splits.

Nothing here imports torch: the processes that decode start in a fraction of a second.
"""
