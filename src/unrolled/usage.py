"""What each command says of itself: what it is for, with examples first."""

HELP = """\
usage: unrolled COMMAND ...      (unrolled COMMAND --help tells more)

Examples:
  unrolled train book.txt                  learn to write like a book
  unrolled train names.txt --unit line     ... or to make up names
  unrolled train questions.csv --source question --target label
                                           ... or to answer, from a table
  unrolled sample runs/book --prompt "The "
  unrolled eval runs/book other.txt        how well it predicts another text
  unrolled predict runs/questions new.csv > out.csv

Commands:
  train     learn from texts, or a table (no INPUT: from a built-in corpus)
  sample    write with a trained model
  predict   answer the rows of a table
  eval      measure a model on a text or a table, beside baselines
  bench     speed and learning against what people write instead
  doctor    versions, processor, disk and a ten-second self-test

RUN is a run folder or a model file. Results go to stdout, all else to stderr.
Exit codes: 0 ok, 1 failed, 2 usage, 3 bad data, 4 bad or damaged model,
5 diverged, 6 no space or I/O, 130/143 stopped but saved, 141 pipe closed.
Set NO_COLOR to have no colours, --debug to see a traceback.
"""

TRAIN = """\
usage: unrolled train [INPUT ...] [flags]

Learn from texts; with no INPUT, from a built-in corpus. With --source and
--target, learn one column of a table (CSV, TSV, JSON lines, Parquet) from
another; what kind each is, is found by looking, or said: COLUMN:KIND.

Examples:
  unrolled train book.txt
  unrolled train questions.csv --source question --target label
  unrolled train pairs.tsv --source de --target en --minutes 20
  unrolled train pictures.csv --source file:image --target caption
  unrolled train builtin:dates
  unrolled train book.txt --minutes 10 --hidden 512
  unrolled train names.txt --unit line
  cat *.log | unrolled train - --tokens bytes
  unrolled train book.txt --preset char-rnn
  unrolled train --resume runs/book --minutes 20
"""

SAMPLE = """\
usage: unrolled sample RUN [flags]

Write with a trained model.

Examples:
  unrolled sample runs/book
  unrolled sample runs/book --prompt "Once upon" --temperature 0.7
  unrolled sample runs/names --count 20 --seed 3
"""

PREDICT = """\
usage: unrolled predict RUN INPUT [flags]

Answer every row of a table that has the source column. The table comes back
on stdout, as CSV, with the columns 'predicted' and 'probability' behind it.

Examples:
  unrolled predict runs/questions new.csv > out.csv
  unrolled predict runs/questions new.csv --probabilities
  unrolled predict runs/pairs new.tsv --beam 1
  unrolled predict runs/painter labels.csv --pictures painted
"""

EVAL = """\
usage: unrolled eval RUN [INPUT ...] [flags]

Measure how well a model predicts a text, in nats and bits a character; or how
often it is right about a table, beside baselines.

Examples:
  unrolled eval runs/book                    its own validation part
  unrolled eval runs/book other.txt          another text
  unrolled eval runs/book --window 256       for comparison with windowed models
  unrolled eval runs/questions test.csv      a table with both columns
"""

BENCH = """\
usage: unrolled bench [PART ...] [flags]

Measure this package against what people write instead, side by side on this
machine. PART: training, sampling, encoding (all three if none is named; some
three minutes), and learning, which takes four times --seconds.

Examples:
  unrolled bench
  unrolled bench training --rounds 9
  unrolled bench learning --text book.txt --seconds 60 --picture loss.svg
"""

DOCTOR = """\
usage: unrolled doctor [flags]

Versions, processor, disk and a self-test of about ten seconds; paste it into
a report.
"""
