"""The table of faults on purpose (tests/mutants.py) is about the package as it is."""

import ast

from mutants import MUTANTS, ROOT, found


def test_each_text_stands_in_its_file_once():
    wrong = {(m.file, m.before): found(m) for m in MUTANTS if found(m) != 1}
    assert wrong == {}, "move the entries of tests/mutants.py along"


def test_each_is_a_program_and_another_one():
    for mutant in MUTANTS:
        text = (ROOT / "sknoisydim" / mutant.file).read_text(encoding="utf-8")
        ast.parse(text.replace(mutant.before, mutant.after))
        assert mutant.before != mutant.after
    assert len({(mutant.file, mutant.before) for mutant in MUTANTS}) == len(MUTANTS) >= 60


def test_the_tests_that_they_name_are_there():
    for mutant in MUTANTS:
        path, *names = mutant.tests.split("::")
        text = (ROOT / path).read_text(encoding="utf-8")
        assert all(f"class {name}" in text or f"def {name}(" in text for name in names), mutant
