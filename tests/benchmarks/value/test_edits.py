from benchmarks.value.edits import edited

TEXT = "The jury said, on Friday, that it was an investigation of the recent primary election in the city."


def test_a_copy_is_a_function_of_number_seed_and_name() -> None:
    assert edited(TEXT, 1, 0, "a") == edited(TEXT, 1, 0, "a")
    others = {edited(TEXT, *key) for key in ((1, 0, "a"), (2, 0, "a"), (1, 1, "a"), (1, 0, "b"))}
    assert len(others) == 4


def test_a_copy_is_another_text_of_almost_the_same_words() -> None:
    words = set(TEXT.lower().split())
    for copy in range(1, 60):
        made = edited(TEXT, copy, 0, "a")
        assert made != TEXT
        assert abs(len(made.split()) - len(words)) <= 6
        assert len(words & set(made.lower().split())) >= len(words) - 6


def test_short_texts_end() -> None:
    assert edited("word", 1, 0, "a") == "word"
    assert all(edited("7 7", copy, 0, "a") != "7 7" for copy in range(1, 30))
