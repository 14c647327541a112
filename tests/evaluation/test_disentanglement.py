"""DCI, SAP and MIG on permutations, constants, independent codes and cases worked by hand."""

import math

import pytest
import torch

from stylex.data.drawn import Factor
from stylex.errors import InputError
from stylex.evaluation.disentanglement import (
    Separation,
    bins,
    disentanglement,
    lasso,
    mig,
    sap,
    separation,
    separation_table,
)

FACTORS = (Factor("a"), Factor("b"), Factor("hat", is_binary=True))


def drawn(count: int = 400) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    values = torch.rand(count, 3, generator=random)
    values[:, 2] = (values[:, 2] > 0.5).float()
    return values


def measured(styles: torch.Tensor, values: torch.Tensor) -> Separation:
    return separation(styles, values, FACTORS, num_screened=10, penalty=0.05)


def test_a_permutation_is_disentangled_and_complete() -> None:
    matrix = torch.eye(4)[[2, 0, 3, 1]]
    assert disentanglement(matrix) == pytest.approx(1)
    assert disentanglement(matrix.T) == pytest.approx(1)


def test_a_constant_matrix_is_neither_and_zeros_are_neither() -> None:
    assert disentanglement(torch.ones(4, 4)) == pytest.approx(0, abs=1e-6)
    assert disentanglement(torch.zeros(4, 4)) == 0


def test_a_code_that_matters_for_nothing_changes_nothing() -> None:
    matrix = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert disentanglement(matrix) == pytest.approx(1)
    assert disentanglement(matrix.T) == pytest.approx(1)


def test_rows_count_by_their_share_of_the_importance() -> None:
    matrix = torch.tensor([[3.0, 0.0], [0.5, 0.5]])  # one row of 1, weight 3/4, one of 0
    assert disentanglement(matrix) == pytest.approx(0.75)
    first = -(6 / 7) * math.log2(6 / 7) - (1 / 7) * math.log2(1 / 7)
    assert disentanglement(matrix.T) == pytest.approx(3.5 / 4 * (1 - first) + 0.5 / 4)


def test_codes_that_are_the_factors_are_separated_by_every_measure() -> None:
    values = drawn()
    found = measured(torch.cat((values[:, [1, 2, 0]], torch.zeros(400, 1)), dim=1), values)
    assert found.disentanglement > 0.95
    assert found.completeness > 0.95
    assert found.informativeness > 0.95
    assert found.mig > 0.8
    assert found.sap > 0.7


def test_codes_that_know_nothing_inform_of_nothing() -> None:
    found = measured(torch.randn(400, 6), drawn())
    assert found.informativeness < 0.3  # a coin for the binary factor, nothing for the others
    assert found.sap < 0.1
    assert found.mig < 0.1


def test_rotated_codes_are_as_informative_but_less_separated() -> None:
    values = drawn()
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2))).Q
    spreads = torch.tensor([factor.spread for factor in FACTORS])
    straight, turned = (
        measured(((values - 0.5) / spreads) @ m, values) for m in (torch.eye(3), rotation)
    )
    assert turned.informativeness == pytest.approx(straight.informativeness, abs=0.05)
    assert turned.disentanglement < straight.disentanglement - 0.2
    assert turned.mig < straight.mig - 0.2


def test_the_lasso_of_orthogonal_codes_is_the_soft_threshold_of_the_products() -> None:
    codes = torch.linalg.qr(torch.randn(50, 4, dtype=torch.float64)).Q * 50**0.5
    codes -= codes.mean(dim=0)
    codes = torch.linalg.qr(codes).Q * 50**0.5
    factor = codes @ torch.tensor([2.0, -1.0, 0.1, 0.0], dtype=torch.float64)
    found = lasso(codes, factor, 4, penalty=0.25)
    assert torch.allclose(
        found, torch.tensor([1.5, -0.5, 0.0, 0.0], dtype=torch.float64), atol=1e-6
    )


def test_only_screened_codes_get_a_weight() -> None:
    values = drawn().double()
    codes = (values - values.mean(dim=0)) / values.std(dim=0)
    found = lasso(codes, values[:, 1], 1, penalty=0.01)
    assert found.nonzero().flatten().tolist() == [1]


def test_two_copies_of_a_factor_have_no_lead() -> None:
    values = drawn()[:, :2]
    copies = values.repeat(1, 2)
    assert mig(copies, values) == pytest.approx(0, abs=1e-9)
    flags = torch.tensor([False, False])
    assert sap(copies.double(), values.double(), flags) == pytest.approx(0, abs=1e-9)


def test_the_mutual_information_of_a_fair_coin_with_itself_is_its_entropy() -> None:
    coin = torch.tensor([0.0, 1.0]).repeat(20)[:, None]
    codes = torch.cat((coin, torch.zeros(40, 1)), dim=1)
    assert mig(codes, coin) == pytest.approx(1)


def test_a_machine_on_a_shifted_coin_is_right_and_its_lead_is_over_the_majority() -> None:
    coin = torch.tensor([0.0, 1.0]).repeat(50)[:, None].double()
    codes = torch.cat((coin - 0.5, torch.zeros(100, 1)), dim=1)
    assert sap(codes * 4, coin, torch.tensor([True])) == pytest.approx(0.5)


def test_bins_have_equal_widths_and_a_constant_falls_into_one() -> None:
    values = torch.tensor([[0.0, 5.0], [0.51, 5.0], [1.0, 5.0]])
    assert bins(values).tolist() == [[0, 0], [10, 0], [19, 0]]


def test_too_little_to_measure_is_refused() -> None:
    with pytest.raises(InputError, match="at least 8 images, 2 coordinates"):
        measured(torch.randn(4, 3), drawn(4))
    with pytest.raises(InputError, match="factors that vary"):
        measured(torch.randn(20, 3), torch.ones(20, 3))


def test_the_table_has_a_column_a_model() -> None:
    found = Separation(0.5, 0.4, 0.9, 0.1, 0.2, 400)
    table = separation_table({"StylEx": found, "Without the classifier": found})
    assert [row.cells[0].value for row in table.rows] == [0.5, 0.4, 0.9, 0.1, 0.2]
    assert all(len(row.cells) == 2 and row.reading for row in table.rows)
