"""The failure detector by itself: if it is wrong, the living are DOWN, or the dead stay UP."""

from __future__ import annotations

import pytest

from ourodb.cluster.gossip.phi import ArrivalWindow, expected_silence_ms
from ourodb.limits import PHI_DOWN, PHI_MAX, PHI_SILENCES_MAX, PHI_SUSPECT

ROUND_MS = 1_000


def fed(intervals_ms: list[int], *, late_ms: int = 0) -> tuple[ArrivalWindow, int]:
    """A window that has seen heartbeats at these intervals, each as late; and the time of the last."""
    window = ArrivalWindow(0, ROUND_MS, ROUND_MS)
    window.resume(0, 0)
    now_ms = 0
    for interval_ms in intervals_ms:
        now_ms += interval_ms
        window.beat(now_ms, now_ms - late_ms)
    return window, now_ms


def is_down(window: ArrivalWindow, now_ms: int) -> bool:
    return window.suspicion(now_ms) > PHI_DOWN


def down_after_ms(window: ArrivalWindow, now_ms: int) -> int:
    return next(ms for ms in range(0, 60_000, 10) if is_down(window, now_ms + ms))


def test_phi_grows_with_silence_and_never_past_its_bound() -> None:
    window, now_ms = fed([ROUND_MS] * 100)
    phis = [window.phi(now_ms + ms) for ms in range(0, 60_000, 100)]
    assert phis == sorted(phis)
    assert phis[0] < 0.1
    assert phis[-1] == PHI_MAX


def test_regular_heartbeats_make_a_death_known_after_three_to_four_rounds() -> None:
    window, now_ms = fed([ROUND_MS] * 100)
    assert 3 * ROUND_MS < down_after_ms(window, now_ms) < 3.5 * ROUND_MS


def test_a_fresh_window_is_patient_but_not_for_long() -> None:
    assert 3.5 * ROUND_MS < down_after_ms(*fed([])) < 4 * ROUND_MS


def test_irregular_heartbeats_are_given_more_time() -> None:
    regular = down_after_ms(*fed([ROUND_MS] * 100))
    irregular = down_after_ms(*fed([200, 1_800, 3_000] * 34))
    assert irregular > 2 * regular


@pytest.mark.parametrize("interval_ms", [10, 3_000, 60_000])
def test_suspicion_is_phi_past_its_threshold(interval_ms: int) -> None:
    """It takes a short cut; it must not be another rule."""
    window, now_ms = fed([interval_ms, interval_ms * 2] * 10)
    for ms in range(0, 30_000, 50):
        phi = window.phi(now_ms + ms)
        assert window.suspicion(now_ms + ms) == (phi if phi >= PHI_SUSPECT else 0)


@pytest.mark.parametrize("intervals_ms", [[], [ROUND_MS] * 100, [200, 1_800, 3_000] * 34])
def test_a_suspect_has_a_round_in_which_it_can_answer(intervals_ms: list[int]) -> None:
    """Else the question that comes before each conviction would put it off."""
    window, now_ms = fed(intervals_ms)
    suspect_ms = next(ms for ms in range(0, 60_000, 10) if window.suspicion(now_ms + ms))
    assert down_after_ms(window, now_ms) >= suspect_ms + ROUND_MS


def test_other_messages_do_not_make_the_detector_nervous() -> None:
    """A link that carries a thousand requests a second may be idle for a second."""
    window, now_ms = fed([ROUND_MS] * 100)
    before = down_after_ms(window, now_ms)
    for ms in range(1_000):
        window.alive_ms = now_ms + ms
    assert down_after_ms(window, now_ms + 999) == before


def test_the_window_is_bounded_and_forgets() -> None:
    window, now_ms = fed([3_900] * PHI_SILENCES_MAX + [ROUND_MS] * PHI_SILENCES_MAX)
    assert down_after_ms(window, now_ms) == down_after_ms(*fed([ROUND_MS] * PHI_SILENCES_MAX))


def test_one_long_silence_does_not_hide_the_next_death() -> None:
    window, now_ms = fed([ROUND_MS] * 60 + [600_000] + [ROUND_MS] * 3)
    assert down_after_ms(window, now_ms) < 6 * ROUND_MS


def test_silence_counts_from_when_a_heartbeat_was_made() -> None:
    """Some came by a quick way, the last by a slow one: the process has been silent for longer than that is here."""
    window, _ = fed([ROUND_MS] * 10)
    window.beat(13_000, 11_000)
    assert window.alive_ms == 11_000


def test_the_quickest_way_of_long_ago_is_forgotten() -> None:
    """Clocks drift: a slow clock's heartbeats would seem older and older."""
    window, now_ms = fed([ROUND_MS] * 10)
    uptime_ms = now_ms
    for _ in range(5 * PHI_SILENCES_MAX):
        now_ms += ROUND_MS
        uptime_ms += ROUND_MS - 5
        window.beat(now_ms, uptime_ms)
    assert now_ms - window.alive_ms < 5 * 2 * PHI_SILENCES_MAX


def test_a_pause_of_our_own_is_not_silence() -> None:
    window, now_ms = fed([ROUND_MS] * 100)
    later_ms = now_ms + 30_000
    assert is_down(window, later_ms)
    window.excuse(later_ms, 29_000)
    assert window.phi(later_ms) == pytest.approx(window.phi(later_ms - 0), abs=0)
    assert not is_down(window, later_ms)
    assert is_down(window, later_ms + 3_000)


def test_a_clock_that_stood_still_counts_anew_after_its_return() -> None:
    """A suspended machine's heartbeats all look as old as its suspension was long."""
    window, now_ms = fed([ROUND_MS] * 100)
    back_ms = now_ms + 500_000
    window.resume(back_ms, now_ms + 10)
    window.beat(back_ms + ROUND_MS, now_ms + 10 + ROUND_MS)
    assert window.alive_ms == back_ms + ROUND_MS


def test_larger_rings_and_fewer_peers_need_more_patience() -> None:
    patience = [
        expected_silence_ms(ROUND_MS, *ring) for ring in ((2, 3), (3, 3), (30, 3), (300, 2), (1_000, 1))
    ]
    assert patience == sorted(patience)
    assert patience[0] == ROUND_MS
    assert patience[-1] < 8 * ROUND_MS
