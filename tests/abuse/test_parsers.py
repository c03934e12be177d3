"""What strangers send is taken or refused: the short run of benchmarks/fuzz_parsers."""

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.abuse.parsers import SEEDS, TARGETS

EXAMPLES = 60
SLOW = {"multipart": 15}


def near(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Any bytes, and those of a seed with some of them replaced, cut out or put in."""
    pieces = st.sampled_from([*seeds, b"", b"\0", b'"', b"\r\n", b"-", b"9" * 25, b"\xff"])
    places = st.integers(0, 80)
    changed = st.builds(
        lambda base, start, length, new: base[:start] + new + base[start + length :],
        st.sampled_from(seeds),
        places,
        places,
        pieces | st.binary(max_size=8),
    )
    return changed | st.lists(pieces, max_size=4).map(b"".join) | st.binary(max_size=200)


# The library of forms leaves the file of a form that breaks off to the collector of garbage.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_whatever_is_sent_is_taken_or_refused(name: str) -> None:
    @seed(1)
    @settings(
        max_examples=SLOW.get(name, EXAMPLES),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=near(SEEDS[name]))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    for data in SEEDS[name]:
        TARGETS[name](data)
    run()


def test_each_target_has_seeds_that_go_far() -> None:
    assert TARGETS.keys() == SEEDS.keys()
    assert all(SEEDS.values())
