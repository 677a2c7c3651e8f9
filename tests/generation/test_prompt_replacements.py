"""The table of replacements is what the tokenizer does with each character."""

import pytest

from unrolled.generation.prompt_replacements import prompt_replacements
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer


@pytest.mark.parametrize(
    ("tokens", "form"), [("\n abcdeo\u00e9\u1100", "none"), ("abef\x00\u1161\uffff", "nfkc"), ("AB", "nfc")]
)
def test_the_table_is_what_the_tokenizer_does(tokens: str, form: str) -> None:
    tokenizer = CharTokenizer(tokens)
    tokenizer.normalization = form
    table = prompt_replacements(tokenizer)
    replacement_of = {character: text for text, characters in table.characters.items() for character in characters}
    assert len(replacement_of) == sum(map(len, table.characters.values()))
    for code in {*range(0x3400), *range(0x3400, 0x110000, 61)}:
        character = chr(code)
        expected = "".join(tokens[index] for index in tokenizer.encode_prompt(character)[0])
        known = character if character in tokens else table.other
        assert replacement_of.get(character, known) == expected, hex(code)


def test_a_model_of_bytes_knows_everything() -> None:
    assert prompt_replacements(ByteTokenizer()).characters == {}
