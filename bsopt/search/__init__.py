"""Optuna's side of bsopt: which point to try next, and when to stop trying it.

Read it in this order: `space` (parameters and coordinates), `value_transform` (values), `bsopt.laws.surface_prior`
(what is believed before any data) and `response_surface` (what the data make of it), `acquisition` and `candidates`
(what to try), `feasibility` (what can run), `history` and `model` (a study as one fit), `sampler` (Optuna's
interface), `explain` (for people). The pruner is `learning_curves`, `prospects`,
`stopping_rules`, `pruner` and `pausing`; `seeded_by_trial` is for Optuna's own samplers. Nothing here imports torch.
"""
