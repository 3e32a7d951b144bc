from random import Random

from zoomrelay.simulator.refresh import RefreshTokens


def _book(life: float = 100) -> RefreshTokens:
    return RefreshTokens(Random(1), expires_in_seconds=life)


def test_a_superseded_one_works_once_more() -> None:
    book = _book()
    first = book.issue(0)
    assert book.use(first, 1) == ""
    second = book.issue(1)
    assert book.use(first, 2) == ""
    assert book.use(first, 3) == "token_revoked"
    assert book.use(second, 3) == ""


def test_a_new_one_may_kill_the_older_ones() -> None:
    book = _book()
    first = book.issue(0)
    assert book.use(first, 1) == ""
    second = book.issue(1, kills_older=True)
    assert (book.use(first, 2), book.use(second, 2)) == ("token_revoked", "")


def test_their_end() -> None:
    book = _book(life=100)
    token = book.issue(50)
    assert book.use(token, 150) == "invalid_token"
    assert book.use(token, 149) == ""
    assert book.use("made up", 0) == "invalid_token"


def test_revoking() -> None:
    book = _book()
    one, other = book.issue(0), book.issue(0)
    assert (book.revoke(one), book.revoke("made up")) == (True, False)
    assert (book.use(one, 1), book.use(other, 1)) == ("token_revoked", "")
    book.revoke_all()
    assert book.use(other, 1) == "token_revoked"
