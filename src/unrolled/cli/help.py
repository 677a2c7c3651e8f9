"""What each command says of itself: what it is for, with examples first."""

MAIN_HELP = """\
usage: unrolled COMMAND ...      (unrolled COMMAND --help tells more)

Examples:
  unrolled train book.txt                  learn to write like a book
  unrolled train names.txt --unit line     ... or to make up names
  unrolled train questions.csv --source question --target label
                                           ... or to answer, from a table
  unrolled sample runs/book --prompt "The "
  unrolled eval runs/book other.txt        how well it predicts another text
  unrolled predict runs/questions new.csv > out.csv
  unrolled explain runs/book               what its neurons follow, as a page
  unrolled score runs/log new.log          the most surprising lines first

Commands:
  train     learn from texts, or a table (no INPUT: from a built-in corpus)
  sample    write with a trained model
  predict   answer the rows of a table
  eval      measure a model on a text or a table, beside baselines
  score     how surprising each line or character of a text is
  explain   see inside: the text coloured by a neuron, guesses, detectors
  report    a run on one page
  bench     speed and learning against what people write instead
  doctor    versions, processor, disk and a ten-second self-test

RUN is a run folder or a model file. Results go to stdout, all else to stderr.
Exit codes: 0 ok, 1 failed, 2 usage, 3 bad data, 4 bad or damaged model,
5 diverged, 6 no space or I/O, 130/143 stopped but saved, 141 pipe closed.
Set NO_COLOR to have no colours, --debug to see a traceback.
"""

TRAIN_HELP = """\
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

SAMPLE_HELP = """\
usage: unrolled sample RUN [flags]

Write with a trained model.

Examples:
  unrolled sample runs/book
  unrolled sample runs/book --prompt "Once upon" --temperature 0.7
  unrolled sample runs/names --count 20 --seed 3 --novel-only
  unrolled sample runs/book --clamp 1.22=-1
"""

PREDICT_HELP = """\
usage: unrolled predict RUN INPUT [flags]

Answer every row of a table that has the source column. The table comes back
on stdout, as CSV, with the columns 'predicted' and 'probability' behind it.

Examples:
  unrolled predict runs/questions new.csv > out.csv
  unrolled predict runs/questions new.csv --probabilities
  unrolled predict runs/pairs new.tsv --beam 1
  unrolled predict runs/painter labels.csv --pictures painted
"""

EVAL_HELP = """\
usage: unrolled eval RUN [INPUT ...] [flags]

Measure how well a model predicts a text, in nats and bits a character; or how
often it is right about a table, beside baselines.

Examples:
  unrolled eval runs/book                    its own validation part
  unrolled eval runs/book other.txt          another text
  unrolled eval runs/book --window 256       for comparison with windowed models
  unrolled eval runs/book --baselines        beside n-grams, xz and chance
  unrolled eval runs/questions test.csv      a table with both columns
"""

SCORE_HELP = """\
usage: unrolled score RUN [INPUT|-] [flags]

How surprising each line of a text is to a model, in bits; the most surprising
lines first. With no INPUT, the text that the run held out. A log of any length
streams through it. --against puts other models beside: who wrote this?

Examples:
  unrolled score runs/log new.log --top 50
  cat new.log | unrolled score runs/log - --json > scores.json
  unrolled score runs/austen letter.txt --against runs/bronte
  unrolled score runs/book --clamp 1.22=0        what a unit is worth, in bits
  unrolled score runs/book page.txt --html heat.html
"""

EXPLAIN_HELP = """\
usage: unrolled explain RUN [INPUT|-] [flags]

See inside a model while it reads: one HTML page, offline, with the text
coloured by any neuron, the five likeliest next characters under each, what
each neuron follows, and what holding one changes. With no INPUT, the text
that the run held out.

Examples:
  unrolled explain runs/book
  unrolled explain runs/book page.txt --out page.html --length 2000
  unrolled explain runs/book --clamp 1.22=-1
  unrolled explain runs/book --terminal --unit 0.117
  unrolled explain runs/book --arrays states.npz
"""

REPORT_HELP = """\
usage: unrolled report RUN [flags]

A run on one HTML page, offline: its settings, loss, samples as it learned,
scores beside counting baselines, where the bits go, what it copied, what its
neurons follow, how far back it remembers, and what to try next.

Examples:
  unrolled report runs/book
  unrolled report runs/questions --out report.html
"""

BENCH_HELP = """\
usage: unrolled bench [PART ...] [flags]

Measure this package against what people write instead, side by side on this
machine. PART: training, sampling, encoding (all three if none is named; some
three minutes); kernels, a layer by each of them; and learning, which takes
four times --seconds.

Examples:
  unrolled bench
  unrolled bench training --rounds 9
  unrolled bench kernels
  unrolled bench learning --text book.txt --seconds 60 --picture loss.svg
"""

DOCTOR_HELP = """\
usage: unrolled doctor [flags]

Versions, processor, disk and a self-test of about ten seconds; paste it into
a report.
"""
