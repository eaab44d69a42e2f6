from consilium.masking import PLACEHOLDERS
from consilium.modalities.text.wordpiece import LEAST_PATIENTS, train_wordpiece, train_words


def test_a_word_of_few_patients_is_never_learned() -> None:
    notes = [(f"p{i}", "fever and cough") for i in range(10)]
    notes += [("p1", "Zebedee " * 50), ("p2", "Zebedee")]
    vocabulary = train_wordpiece(notes, 500).get_vocab()
    assert LEAST_PATIENTS == 3
    assert "fever" in vocabulary
    assert not any("zeb" in piece for piece in vocabulary)


def test_offsets_point_into_the_text() -> None:
    tokenizer = train_wordpiece([(f"p{i}", "fever and cough") for i in range(5)], 500)
    text = "Cough, no fever"
    encoded = tokenizer(text, return_offsets_mapping=True)
    words = [text[a:b] for a, b in encoded["offset_mapping"] if b > a]
    assert "Cough" in words
    assert "fever" in words


def test_the_same_notes_give_the_same_vocabulary() -> None:
    notes = [(f"p{i}", f"fever cough w{i % 3} dyspnoea") for i in range(30)]
    assert train_wordpiece(notes, 300).get_vocab() == train_wordpiece(notes, 300).get_vocab()


def test_whole_words_are_those_of_most_patients() -> None:
    notes = [
        (f"p{i}", f"Fever, cough; a {PLACEHOLDERS[0]} " + "dyspnoea " * (i < 4) + "oedema" * (i < 2)) for i in range(10)
    ]
    tokenizer = train_words(notes, 500)
    words = [word for word in tokenizer.get_vocab() if word.isalpha()]
    # One letter and marks are no words; two patients are too few.
    assert sorted(words) == ["cough", "dyspnoea", "fever"]
    reserved = len(train_words([], 500))
    assert {word for word in train_words(notes, reserved + 2).get_vocab() if word.isalpha()} == {"cough", "fever"}
    assert tokenizer.tokenize("FEVER without chills") == ["fever", "[UNK]", "[UNK]"]
