from zoomrelay.simulator.catalogue import FAMILIES, NAMES


def test_holds_every_published_name_once() -> None:
    assert len(NAMES) == len(set(NAMES)) == 574


def test_families_have_the_published_sizes() -> None:
    sizes = {prefix: len(names) for prefix, names in FAMILIES.items()}
    assert sizes["contact_center"] == 107
    assert sizes["phone"] == 73
    assert sizes["meeting"] == 70
    assert sizes[""] == 7


def test_keeps_the_odd_spellings() -> None:
    assert "app_deauthorized" in NAMES
    assert "contact_center.user_skills_assigned." in NAMES
    assert not any(" " in name for name in NAMES)
