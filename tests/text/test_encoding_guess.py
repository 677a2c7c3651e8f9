"""The likely encoding of a file that is not UTF-8: the one that gives its text back."""

from pathlib import Path

import pytest

from unrolled.errors import DataError
from unrolled.tables.table_files import open_table
from unrolled.text.encoding_guess import likely_encoding
from unrolled.text.encodings import check_encoding

TEXTS = {
    "Вчера вечером мы пошли в ресторан, и суп был очень хорош, а сегодня плохой.": ["cp1251", "koi8-r", "cp866", "iso8859-5"],
    "МОСКВА, УЛИЦА ЛЕНИНА, ДОМ 5, САНКТ-ПЕТЕРБУРГ": ["koi8-r"],
    "Вчора ввечері ми пішли до ресторану, і суп був дуже добрий.": ["cp1251"],
    "Χθες το βράδυ πήγαμε στο εστιατόριο και η σούπα ήταν πολύ καλή.": ["cp1253"],
    "ذهبنا أمس إلى المطعم وكان الحساء جيدا جدا ولكنه كان اليوم سيئا": ["cp1256", "iso8859-6"],
    "אתמול הלכנו למסעדה והמרק היה טוב מאוד אבל היום הוא היה רע": ["cp1255"],
    "เมื่อวานเราไปร้านอาหารและซุปอร่อยมาก แต่วันนี้ไม่ดีเลย": ["cp874"],
    "昨日レストランに行きました。スープはとても美味しかったです。": ["cp932", "euc_jp"],
    "어제 우리는 식당에 갔고 수프가 아주 맛있었지만 오늘은 나빴다.": ["cp949"],
    "昨天我们去了餐厅，汤很好喝，但是今天的汤不好。": ["gbk"],
    "昨天我們去了餐廳，湯很好喝，但是今天的湯不好。": ["big5"],
    "Hier soir nous sommes allés au café, la soupe était très bonne.": ["latin-1", "mac-roman", "cp850"],
    "Gestern gingen wir ins Café, die Suppe war schön heiß und süß.": ["cp1252", "mac-roman", "cp850"],
    "Wczoraj poszliśmy do kawiarni i zupa była świeża, a dziś zła.": ["cp1250", "iso8859-2"],
    "Včera večer jsme šli do kavárny a polévka byla velmi dobrá, příště žádná.": ["cp1250", "iso8859-2"],
    "Dün akşam kafeye gittik ve çorba çok güzeldi, bugün kötüydü.": ["cp1254"],
    "Vakarā mēs gājām uz kafejnīcu un zupa bija ļoti garšīga.": ["cp1257"],
    "It cost £5 – that’s “good”.": ["cp1252"],
}


@pytest.mark.parametrize(("text", "codec"), [(text, codec) for text, codecs in TEXTS.items() for codec in codecs])
def test_the_likely_encoding_gives_the_text_back(text: str, codec: str) -> None:
    data = text.encode(codec)
    name = likely_encoding(data)
    assert name is not None
    assert data.decode(check_encoding(name)) == text


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_of_any_alphabet_is_recognized(codec: str) -> None:
    text = "".join(f"суп номер {number},хорош\n" for number in range(20))
    assert likely_encoding(text.encode(codec)) == codec.upper().replace("-LE", "LE").replace("-BE", "BE")


@pytest.mark.parametrize("data", [bytes(range(256)) * 4, "\u00e9".encode() * 9 + b"\xe9", b"the soup was good\0 and hot," * 9])
def test_what_is_no_text_of_one_encoding_has_none(data: bytes) -> None:
    assert likely_encoding(data) is None


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        ("суп был хорош".encode("koi8-r"), "Read it with encoding='koi8-r', or convert it (iconv -f KOI8-R -t UTF-8 t.csv >"),
        ("caf\u00e9 \u00e0 midi ".encode() + b"caf\xe9", "leave out all such bytes (iconv -f UTF-8 -t UTF-8 -c t.csv >"),
        (b"a\0 soup", "remove them (tr -d '\\000' < FILE > NEW)"),
    ],
)
def test_the_way_to_read_a_file_is_a_whole_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, advice: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_bytes(b"text,label\n" + data + b",a\n")
    with pytest.raises(DataError) as refused:
        open_table("t.csv")
    assert advice in str(refused.value)
