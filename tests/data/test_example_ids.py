import pytest

from t5like.data.example_ids import ExampleId, id_of_row, ids_of_rows, parse_id


def test_ids_say_what_they_were_made_of():
    ids = ids_of_rows(31, 2**12 - 1, 2**28 - 1, 2**18)
    assert ids.dtype == "int64"
    assert parse_id(ids[-1]) == ExampleId(31, 2**12 - 1, 2**28 - 1, 2**18 - 1)
    assert parse_id(ids_of_rows(1, 2, 3, 5)[4]) == (1, 2, 3, 4)
    assert ids_of_rows(0, 0, 0, 3).tolist() == [0, 1, 2]


def test_rows_of_a_list_have_ids_of_their_own():
    assert parse_id(id_of_row(2, 3, 5)) == (2, 3, 0, 5)
    assert parse_id(id_of_row(2, 3, 2**18)) == (2, 3, 1, 0)
    with pytest.raises(ValueError, match="no id"):
        id_of_row(0, 0, 2**50)


def test_epochs_are_told_apart_up_to_a_period():
    assert ids_of_rows(0, 2**12 + 3, 1, 1) == ids_of_rows(0, 3, 1, 1)


@pytest.mark.parametrize("numbers", [(32, 0, 0, 1), (0, 0, 2**28, 1), (0, 0, 0, 2**18 + 1)])
def test_numbers_too_large_are_refused(numbers):
    with pytest.raises(ValueError, match="no id"):
        ids_of_rows(*numbers)
