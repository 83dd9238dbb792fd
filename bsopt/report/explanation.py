"""Where the search stands: what it started from and believes now, and why it looked where it did, in words."""

from __future__ import annotations

from bsopt.laws.scaling import default_reference
from bsopt.report.markup import Html, join, tag
from bsopt.search.sampler import ScalingSampler
from bsopt.storage.attributes import enqueued_params
from bsopt.study.samplers import sampler_of
from bsopt.trial.record import StudyInfo
from bsopt.units import format_number
from bsopt.visualization.study_data import StudyData

__all__ = ["reasons"]

_RULES = {
    "sqrt": "the square-root rule",
    "none": "the same learning rate at every batch size",
    None: "a learning rate that grows somewhat slower than the optimizer's usual rule says",
}


def reasons(data: StudyData) -> Html | None:
    """Return what the sampler started from, what it believes now, and why it proposed the best and the last trial.

    None where there is no such belief: records without a study, several objectives, or a study that doesn't search
    both a batch size and a learning rate.
    """
    if data.study is None or len(data.study.directions) > 1:
        return None
    asked = data.info.search
    sampler = sampler_of(data.info, names=data.names)
    belief = sampler.explain(data.study)
    if not belief.ridge:
        return None
    words = [belief.message, *(edge.message for edge in belief.edges)]
    is_ours = asked is not None and asked.sampler == "scaling"
    return join(
        tag("p", _start(data.info, is_ours=is_ours)),
        tag("p", " ".join(words)),
        _proposals(data, sampler) if is_ours else None,
    )


def _start(info: StudyInfo, *, is_ours: bool) -> str:
    asked = info.search
    if is_ours and asked is not None and asked.prior_from:
        known = f"the best learning rates that the study {asked.prior_from} had found"
    else:
        rule = asked.rule if asked is not None else info.rule
        reference = info.reference or default_reference(info.optimizer or "sgd")
        source = "a published default"
        if info.reference is not None:
            is_own = asked is None or asked.has_reference
            source = "your reference" if is_own else f"{source}, moved to the length of this training"
        if info.measured_start is not None and info.measured_start.lr is not None:
            source = f"measured before the first trial {info.measured_start.lr.certainty}"
        known = (
            f"{_RULES.get(rule, f'the {rule} rule')}, through batch size {reference.batch_size} with learning rate "
            f"{format_number(reference.lr)}, {source}"
        )
    if not is_ours:
        return (
            f"This is what bsopt's own sampler believes of these trials, whoever proposed them. It starts from "
            f"{known}, which counts less with every trial."
        )
    return (
        f"Before the first trial the search knew only this: {known}. It decides where to look first and counts less "
        "with every trial."
    )


def _proposals(data: StudyData, sampler: ScalingSampler) -> Html | None:
    """Return why the best and the last of the proposed trials were proposed; enqueued ones were not."""
    assert data.study is not None
    trials = data.study.get_trials(deepcopy=False)
    proposed = [trial.number for trial in trials if trial.params and enqueued_params(trial) is None]
    best = data.best.number if data.best is not None else None
    which = dict.fromkeys(proposed[-1:], "the latest")
    if best in proposed:
        which[best] = "the best and the latest" if best in which else "the best"
    items = []
    for number in sorted(which):
        why = sampler.why(data.study, number)
        if why is not None:
            items.append(tag("li", tag("b", f"Trial {number}, {which[number]}: "), why.reason))
    return tag("ul", *items) if items else None
