"""The token that ClinGen's Allele Registry accepts a registration by."""

import pytest

from tasks.clients.clingen import Account, signed

REGISTRY = "http://reg.test.genome.network"


def test_token_is_the_one_of_the_registrys_manual() -> None:
    url = signed(f"{REGISTRY}/alleles?file=hgvs", Account("testuser", "testuser"), 1_700_000_000)

    assert url == (
        f"{REGISTRY}/alleles?file=hgvs&gbLogin=testuser&gbTime=1700000000"
        "&gbToken=2efbd4d6fdb4774c63db7cabe3d7dab259a00de2"
    )


def test_an_account_name_cannot_add_parameters() -> None:
    url = signed(f"{REGISTRY}/alleles?file=hgvs", Account("a&b +c@lab.org", "x"), 1)

    assert "&gbLogin=a%26b%20%2Bc@lab.org&gbTime=1&" in url


def test_a_url_without_a_query_cannot_be_signed() -> None:
    with pytest.raises(ValueError, match="query"):
        signed(f"{REGISTRY}/alleles", Account("a", "b"), 1)


def test_an_account_does_not_show_its_password() -> None:
    assert "hunter2" not in repr(Account("curator", "hunter2"))
