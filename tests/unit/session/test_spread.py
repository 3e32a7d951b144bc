"""Paths of one source use different addresses where there are several."""

from __future__ import annotations

from zoomrelay.session.spread import Addresses

FOUND = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_paths_take_addresses_that_no_twin_uses() -> None:
    addresses = Addresses()
    for path, address in zip("abc", FOUND, strict=True):
        assert addresses.in_order(path, FOUND)[0] == address
        addresses.using(path, address)
    assert addresses.in_order("d", FOUND) == FOUND, "there are no more than three"
    assert addresses.in_order("b", ["10.0.0.3", "10.0.0.2", "10.0.0.1"])[0] == "10.0.0.2", "its own"


def test_the_resolver_s_order_is_kept_otherwise() -> None:
    addresses = Addresses()
    assert addresses.in_order("a", [*reversed(FOUND), FOUND[0]]) == [*reversed(FOUND)]


def test_what_failed_comes_last_even_behind_a_twin_s() -> None:
    addresses = Addresses()
    addresses.using("twin", FOUND[1])
    addresses.using("a", FOUND[0])
    addresses.failed("a")
    assert addresses.in_order("a", FOUND) == [FOUND[2], FOUND[1], FOUND[0]]
    assert addresses.in_order("a", FOUND[:1]) == FOUND[:1], "better than none"
    addresses.failed("never tried")
