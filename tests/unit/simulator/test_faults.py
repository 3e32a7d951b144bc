import pytest

from zoomrelay.simulator.faults import Faults


def test_changes_apply_together_or_not_at_all() -> None:
    faults = Faults()
    with pytest.raises(ValueError):
        faults.change({"stop_answering": True, "end_how": "explode"})
    assert faults == Faults()
    faults.change({"stop_answering": True, "end_how": "reset"})
    assert (faults.stop_answering, faults.end_how) == (True, "reset")


@pytest.mark.parametrize(
    "changes", [{"nonsense": 1}, {"end_after_seconds": -1}, {"rubbish_kind": "?"}, {"close_code": 70000}]
)
def test_nonsense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Faults().change(changes)


def test_values_may_be_text_where_that_is_wanted() -> None:
    faults = Faults()
    faults.change({"end_after_seconds": "2.5", "never_accept": "true", "refuse": "5"}, strict=False)
    assert (faults.end_after_seconds, faults.never_accept, faults.refuse) == (2.5, True, "5")
    with pytest.raises(ValueError):
        faults.change({"end_after_seconds": "1"})


def test_a_fault_with_times_is_used_up() -> None:
    faults = Faults(refuse="Invalid Token", refuse_times=2)
    assert [faults.take_refusal() for _ in range(3)] == ["Invalid Token", "Invalid Token", ""]


def test_a_fault_without_times_lasts() -> None:
    faults = Faults(upgrade_status=503)
    assert {faults.take_upgrade_status() for _ in range(10)} == {503}


def test_no_fault_uses_up_nothing() -> None:
    faults = Faults(refuse_times=1)
    assert faults.take_refusal() == ""
    faults.refuse = "no"
    assert faults.take_refusal() == "no"


def test_clear_makes_it_behave() -> None:
    faults = Faults(token_status=503, late_every=3, close_code=4001)
    faults.clear()
    assert faults == Faults()
