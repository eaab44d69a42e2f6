"""The code's parts are small enough to be read at once: `scripts/house.py`."""

from __future__ import annotations

from scripts.house import House, Size, code_lines, functions, measure, report

SOURCE = '''"""What it is."""

import ast  # one line of code


class Holder:
    """Holds."""

    def method(self):
        """Docstring.

        Of several lines.
        """
        # a comment

        value = """text
        that is code"""
        return value


@decorated
def outer(
    a,
    b,
):
    def inner():
        return a

    return inner
'''


def test_no_part_of_the_packages_is_too_large() -> None:
    assert measure().too_large() == []


def test_docstrings_comments_and_empty_lines_are_no_code() -> None:
    assert len(code_lines(SOURCE)) == 14


def test_functions_inside_a_function_do_not_count_for_it() -> None:
    sizes = {one.place: one.lines for one in functions(SOURCE, "m.py")}

    assert sizes == {"m.py:9 method": 4, "m.py:22 outer": 6, "m.py:26 inner": 2}


def test_each_limit_that_is_broken_is_named() -> None:
    house = House([Size("f", 9), Size("g", 61)], [Size("m.py", 400), Size("n.py", 401)], [Size("folder", 15)])

    assert house.too_large() == [
        "median function: 35.0 > 8",
        "function g: 61 > 60",
        "module n.py: 401 > 400",
        "folder folder: 15 > 14",
    ]
    assert "    61 g" in report(house)
