"""What is recommended from a study of 50 trials."""

from __future__ import annotations

import pytest
from recommended_studies import foreign

from bsopt.recommendation import Recommendation, recommend


@pytest.fixture(scope="module")
def found() -> Recommendation:
    return recommend(foreign(50))
