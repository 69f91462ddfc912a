"""Questions of several parts, their one form, and the independent units that they make."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_bridge.data import (
    Item,
    Picture,
    Turn,
    about_other,
    check_disjoint,
    check_one_cluster_per_image,
    image_hashes,
    image_ids,
    items_hash,
    link_units,
    unit_word,
    with_images,
)
from vlm_bridge.errors import BridgeError
from vlm_bridge.model.prompts import batch_places


def shade(number):
    return Picture.of(np.full((2, 2), number, dtype=np.uint8))


def asks(*numbers, question="which?"):
    return Item.of(*map(shade, numbers), question)


A, B = Path("a.png"), Path("b.png")


@pytest.mark.parametrize(
    ("made", "simple"),
    [
        (Item.of(A, "what?"), Item(A, "what?")),
        (Item.of("what?"), Item(None, "what?")),
        (Item.of("what", " is it?"), Item(None, "what is it?")),
        (Item.of("", A, " ", "what?", answer="x"), Item(A, "what?", "x")),
        (Item.of("what?", audio="a.wav"), Item(None, "what?", audio=Path("a.wav"))),
        (Item(None, "", parts=(A, "what?")), Item(A, "what?")),
    ],
)
def test_a_simple_question_has_one_form(made, simple):
    assert made == simple
    assert made.parts == ()


def test_order_is_kept_and_said_once():
    item = Item.of("Is ", A, "\nleft of", B, "?", answer="yes", system="Be short.")
    assert item.parts == ("Is ", A, "\nleft of", B, "?")
    assert (item.image, item.question) == (None, "Is left of ?")
    assert item.images == item.files == (A, B)
    assert item.name == "a.png: b.png: Is left of ?"
    assert [turn.role for turn in item.dialogue] == ["system", "user"]
    assert replace(item, answer=None).parts == item.parts
    assert Item.of(A, "?", B).images == (A, B) != Item.of(B, "?", A).images
    assert Item.of("what?", A).parts == ("what?", A)  # the text first is another prompt


def test_images_of_earlier_turns_count():
    turns = (Turn("user", (A, "what is it?")), Turn("assistant", "a cat"))
    item = Item.of(B, "and this?", turns=turns)
    assert (item.image, item.images, item.kinds) == (B, (A, B), ("image",))
    alone = Item.of("what colour?", turns=turns)
    assert (alone.image, alone.images, alone.kinds) == (None, (A,), ("image",))
    assert alone.cluster == "a.png"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Item(A, "?", parts=(B, "?", A)), "an item has an image or parts; put the image"),
        (lambda: Item(None, "other", parts=(A, "?", B)), "'other' is not the text of its parts"),
        (lambda: Item.of(A, B), "has an empty question"),
        (lambda: Item.of(), "an item about nothing else has an empty question"),
        (lambda: Item.of(A, 3, "?"), "3 is no image"),
        (lambda: Item.of(A, "\ud800"), "half a surrogate pair"),
        (lambda: Item(None, "?", parts="a.png"), "parts are a list of texts and images, got 'a.p"),
        (lambda: Turn("bot", "hello"), "a turn is of system, user, assistant, got 'bot'"),
        (lambda: Turn("assistant", (A,)), "a turn of the assistant is text alone"),
        (lambda: Turn("user", " "), "a turn of the user says nothing"),
        (lambda: Item.of("?", turns=("hello",)), r"turns\[0\] is no Turn but 'hello'"),
        (lambda: Item.of("?", turns="hello"), r"turns\[0\]|turns are a list of Turn"),
        (
            lambda: Item.of("?", system="one", turns=(Turn("system", "two"),)),
            "a system message comes first, and once",
        ),
        (lambda: Item.of(A, "?", B).open(), "has 2 images; open_image opens each"),
        (lambda: Item.of("why?").open(), "the item 'why\\?' has no image"),
    ],
)
def test_bad_parts_and_turns_are_refused(make, says):
    with pytest.raises(BridgeError, match=says):
        make()


def test_the_hash_sees_order_turns_and_roles():
    base = Item.of("Is", shade(1), "left of", shade(2), "?", cluster="x")
    others = [
        Item.of("Is", shade(2), "left of", shade(1), "?", cluster="x"),
        Item.of("Is", "left of", shade(1), shade(2), "?", cluster="x"),
        Item.of("Is", shade(1), "left of", shade(3), "?", cluster="x"),
        replace(base, turns=(Turn("system", "short"),)),
        replace(base, turns=(Turn("user", "short"),)),
        replace(base, turns=(Turn("user", "short"), Turn("assistant", "yes"))),
        replace(base, answer="yes"),
    ]
    assert len({items_hash([item]) for item in (base, *others)}) == 1 + len(others)
    assert len(image_hashes([base])) == 2
    assert set(image_hashes([base])) < set(image_ids([base]))


def components(sets):
    """Connected components by brute force: repeated union of sets that meet."""
    found = [set(one) for one in sets]
    for _ in sets:
        for a, b in itertools.combinations(range(len(found)), 2):
            if found[a] & found[b]:
                found[a] |= found[b]
                found[b] |= found[a]
    return [frozenset(one) for one in found]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=8))
def test_units_are_the_connected_components(groups):
    items = [asks(*group, question=f"q{place}") for place, group in enumerate(groups)]
    linked = link_units(items)
    of_component = components(groups)
    for a, b in itertools.product(range(len(groups)), repeat=2):
        same = of_component[a] == of_component[b]
        assert (linked[a].cluster == linked[b].cluster) == same
    check_one_cluster_per_image(linked)
    assert [replace(item, cluster="x") for item in linked] == [
        replace(item, cluster="x") for item in items
    ]
    backwards = link_units(items[::-1])[::-1]
    assert [item.cluster for item in backwards] == [item.cluster for item in linked]
    assert link_units(linked) == linked


def test_linked_before_and_joined_later():
    first, second = link_units([asks(1, 2), asks(2, 3)]), [asks(3, 4), asks(5)]
    found = [item.cluster for item in link_units([*first, *second])]
    assert len(set(found[:3])) == 1
    assert found[3] not in found[:3]


def test_overlapping_images_in_two_units_are_refused():
    """Certificates count units, so a verb refuses items that share an image across units."""
    items = [asks(n, n + 1) for n in range(3)]
    assert len({item.cluster for item in items}) > 1
    with pytest.raises(BridgeError, match=r"about one picture .* or join both with .*link_units"):
        batch_places(items, 4)
    assert len({item.cluster for item in link_units(items)}) == 1
    assert batch_places(link_units(items), 2) == [[0, 1, 2]]


def test_declared_clusters_stay_and_are_checked():
    film = [replace(asks(1, 2), cluster="film"), replace(asks(3), cluster="film")]
    assert link_units([*film, asks(7)])[:2] == film
    with pytest.raises(BridgeError, match="in two clusters"):
        check_one_cluster_per_image(link_units([*film, asks(3, 4)]))


@pytest.mark.parametrize("names", [("2024010100000001", "2024010100000002"), ("film", "shop")])
def test_a_declared_cluster_is_kept_whatever_it_looks_like(names):
    """A time or an id of 16 hexadecimal digits is no content hash."""
    apart = [replace(asks(n), cluster=name) for n, name in enumerate(names)]
    assert link_units(apart) == apart
    shared = [replace(asks(1, question=name), cluster=name) for name in names]
    with pytest.raises(BridgeError, match="in two clusters"):
        check_one_cluster_per_image(link_units(shared))
    with pytest.raises(BridgeError, match="are in both splits"):
        check_disjoint(apart[:1], [replace(asks(9), cluster=names[0])], "are in both splits")
    check_disjoint(apart[:1], apart[1:], "are in both splits")


def test_splits_that_share_one_of_several_images_are_refused():
    with pytest.raises(BridgeError, match="are in both splits"):
        check_disjoint([asks(1, 2)], [asks(2, 3)], "are in both splits")
    check_disjoint([asks(1, 2)], [asks(3, 4)], "are in both splits")


def test_order_of_two_images_does_not_change_the_unit():
    assert asks(1, 2).cluster == asks(2, 1).cluster
    assert asks(1).cluster in {shade(1).digest[:16]}


def test_texts_after_other_turns_are_other_texts():
    turns = [(Turn("user", text), Turn("assistant", "yes")) for text in ("one", "two")]
    first, second = (Item.of("why?", turns=before) for before in turns)
    assert len({first.cluster, second.cluster, Item.of("why?").cluster}) == 3


def test_the_word_for_units_of_several_images():
    assert unit_word([asks(1, 2)]) == "units"
    assert unit_word([asks(1)]) == "images"


def test_other_images_take_the_places_of_its_own():
    item = Item.of("Is", shade(1), "or", shade(2), "?", turns=(Turn("user", (shade(3), "see")),))
    swapped = with_images(item, [shade(n) for n in (7, 8, 9)])
    assert swapped.images == (shade(7), shade(8), shade(9))
    assert swapped.parts == ("Is", shade(8), "or", shade(9), "?")
    other = asks(4)
    found = about_other(item, other)
    assert (found.images, found.cluster) == ((shade(4),) * 3, other.cluster)
    check_one_cluster_per_image([found, other])
    with pytest.raises(BridgeError, match="has no image to put into the question"):
        about_other(item, Item.of("why?"))
