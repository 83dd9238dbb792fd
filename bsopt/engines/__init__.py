"""Where a study's workers run: on a Ray cluster, as SLURM jobs, or as ranks that torchrun or srun started.

A leader creates the study, places workers and follows them through the storage; each worker runs the ordinary
loop (`Study.run`), one trial at a time.
"""
