"""The matrix of attacks in SECURITY.md is the one the tests carry out."""

from tests.integrity import matrix


def test_the_matrix_of_attacks_is_current():
    text = matrix.PAGE.read_text(encoding="utf-8")
    assert "<!-- end of attacks -->" in text
    assert text == matrix.page(text), "run: python -m tests.integrity.matrix"


def test_every_attack_is_listed_once():
    attacks = [row[0] for row in (*matrix.tampering(), *matrix.rows(), *matrix.around())]
    assert len(set(attacks)) == len(attacks) > 55
