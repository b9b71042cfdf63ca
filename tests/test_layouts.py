"""Published layouts, on small files written as they are published."""

import numpy as np
import pytest

from recsys_helpers import load_ratings
from recsys_helpers.data.layouts import LAYOUTS


def test_book_crossing(tmp_path):
    path = tmp_path / "BX-Book-Ratings.csv"
    path.write_bytes(
        '"User-ID";"ISBN";"Book-Rating"\r\n"276725";"034545104X";"0"\r\n"276726";"0155061224";"5"\r\n'
        '"276727";"é446520802";"10"\r\n'.encode("latin-1")
    )
    for source in (path, tmp_path):
        ratings = load_ratings(source)
        assert ratings.item_ids.tolist() == ["0155061224", "é446520802"] and ratings.scale == (1, 10)
        assert ratings.user_ids.tolist() == [276726, 276727]
        assert "1 rows with rating 0, which stands for no rating, left out" in ratings.summary()["found"]
    assert len(load_ratings(path, implicit=True)) == 3
    assert load_ratings(path, layout="book-crossing").item_name == "ISBN"


def test_jester(tmp_path):
    path = tmp_path / "jester-data-1.csv"
    rows = [[2, -7.82, 8.79] + [99] * 98, [1] + [99] * 99 + [-9.95]]
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    ratings = load_ratings(path)
    assert ratings.scale == (-10, 10)
    expected = [[1, 1, -7.82], [1, 2, 8.79], [2, 100, -9.95]]
    np.testing.assert_allclose(ratings.to_frame().to_numpy(), expected, rtol=1e-6)
    path.write_text(path.read_text().replace("8.79", "good"))
    with pytest.raises(ValueError, match="jester-data-1.csv, line 1, field 3: got 'good'"):
        load_ratings(path, layout="jester")


@pytest.mark.parametrize("layout", ["amazon", "amazon-2018"])
def test_amazon(tmp_path, layout):
    path = tmp_path / "ratings_Books.csv"
    rows = [("A2F6N60Z96CAJI", "0001712799", "5.0", "1390003200"), ("A1", "1712799", "4.0", "1390003201")]
    if layout == "amazon-2018":
        rows = [(item, user, *rest) for user, item, *rest in rows]
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    ratings = load_ratings(path, layout=layout)
    assert ratings.item_ids.tolist() == ["0001712799", "1712799"] and ratings.scale == (1, 5)
    assert ratings.user_ids.tolist() == ["A1", "A2F6N60Z96CAJI"]
    assert ratings.timestamps.tolist() == [1390003200, 1390003201]
    path.write_text("A1,B1,x,1\n")
    with pytest.raises(ValueError, match="expected four fields"):
        load_ratings(path, layout=layout)


def test_netflix(tmp_path):
    lines = "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n12:\n1488844,4,2004-04-19\n"
    (tmp_path / "combined_data_1.txt").write_text(lines)
    expected = [[1488844, 1, 3, 1125964800], [822109, 1, 5, 1115942400], [1488844, 12, 4, 1082332800]]
    for source in (tmp_path / "combined_data_1.txt", tmp_path):
        ratings = load_ratings(source)
        assert ratings.to_frame().to_numpy().tolist() == expected
        assert ratings.item_name == "film" and ratings.scale == (1, 5)
    folder = tmp_path / "training_set"
    folder.mkdir()
    (folder / "mv_0000001.txt").write_text("1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n")
    (folder / "mv_0000012.txt").write_text("12:\n1488844,4,2004-04-19\n")
    assert load_ratings(folder).to_frame().to_numpy().tolist() == expected
    (tmp_path / "bad.txt").write_text("1:\nx,3,2005-09-06\n")
    with pytest.raises(ValueError, match="bad.txt: expected lines such as"):
        load_ratings(tmp_path / "bad.txt", layout="netflix")


def test_lists(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("0 5 7 9\n1 5\n2\n")
    ratings = load_ratings(path, layout="lists")
    assert ratings.to_frame().to_numpy().tolist() == [[0, 5, 1], [0, 7, 1], [0, 9, 1], [1, 5, 1]]
    path.write_text("0 x\n")
    with pytest.raises(ValueError, match="train.txt, line 1: got '0 x'"):
        load_ratings(path, layout="lists")


def test_every_layout_is_tested():
    assert set(LAYOUTS) == {"book-crossing", "jester", "amazon", "amazon-2018", "netflix", "lists"}
