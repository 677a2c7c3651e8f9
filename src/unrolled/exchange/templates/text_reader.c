/* @TITLE@

   Written by unrolled @VERSION@. One C99 file, no memory allocation; of math.h: expf, exp, tanhf, sqrtf, sqrt.

     cc -O3 -DTEST @FILE@ -lm && ./a.out    replays the test vectors below: every output of each of their texts
     cc -O3 -DMAIN @FILE@ -lm && ./a.out < texts.txt    a text in each line; prints the answers

     static rnn_model model;    @RAM@ bytes of RAM; @FLASH@ bytes of tables@NGRAM_FLASH@
     static float outputs[RNN_VALUES];
     rnn_predict(&model, "a text in UTF-8", outputs);

   outputs: @OUTPUTS@.
   A text is read as @TOKENS@: of longer ones the first RNN_STEPS tokens, of at most RNN_TEXT code points. -DRNN_STEPS=100
   -DRNN_TEXT=600 need less RAM. The result of rnn_predict is the number of tokens that were read, 0 if there is nothing in the
   text. @NORMAL_FORM@Unknown words and characters are read as by `unrolled predict`; a final sigma in capitals is not. */

#include <math.h>
#include <stdint.h>
#include <string.h>

@DEFINES@
#ifndef RNN_STEPS
#define RNN_STEPS @STEPS@
#endif
#ifndef RNN_TEXT
#define RNN_TEXT @TEXT@
#endif
#ifndef RNN_NGRAMS
#define RNN_NGRAMS (RNN_BUCKETS > 0) /* -DRNN_NGRAMS=0 leaves them out: less flash, and other answers */
#endif
#define RNN_VALUES (RNN_ANSWERS * (RNN_TAGGER ? RNN_STEPS : 1))
#define RNN_NUM_HASHES (RNN_NGRAMS ? RNN_RUN_HASHES * (2 * RNN_NGRAM_CHARACTERS + 2) + 3 * RNN_TEXT + 2 : 1)

typedef struct {
    uint32_t text[RNN_TEXT + 2], ngram_text[2 * RNN_TEXT + 2], hashes[RNN_NUM_HASHES];
    int ids[RNN_STEPS], num_text, num_steps;
    float x[RNN_STEPS][RNN_HIDDEN], normed[RNN_BOTH_WAYS ? RNN_STEPS : 1][RNN_HIDDEN], pooled[RNN_HIDDEN], scores[RNN_STEPS];
    float h[RNN_STATES][RNN_UNITS], c[RNN_STATES][RNN_UNITS];
    float in[RNN_WIDTH], gates[RNN_GATES], recurrent[RNN_GATES];
#if RNN_BASE && RNN_NGRAMS
    float base_x[RNN_UNITS], features[4 * RNN_BASE];
#endif
    float values[RNN_VALUES]; /* the logits, or scaled numbers, before they become outputs */
} rnn_model;

int rnn_predict(rnn_model *model, const char *text, float *outputs);
@PROTOTYPES@

typedef @WEIGHT@ rnn_weight;
typedef struct { int rows, columns; const rnn_weight *weight; const float *scale; } rnn_matrix;
typedef struct {
    int cell, hidden; /* RNN, GRU, GRU whose reset gate is before the product, LSTM */
    rnn_matrix input, recurrent;
    const float *bias, *bias_hh, *norm_weight, *norm_bias;
} rnn_layer;

@TABLES@

/* ---- text ---- */

enum { WORD = 1, DECIMAL = 2, DIGIT = 4, UPPER = 8, LOWER = 16, BLANK = 32 };

/* The last of sorted numbers that is at most a value, or -1. */
static int find(const uint32_t *numbers, int count, uint32_t value) {
    int low = 0, high = count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (numbers[middle] <= value) low = middle + 1;
        else high = middle;
    }
    return low - 1;
}

static int class_of(uint32_t c) { return (int)(CLASSES[find(CLASSES, RNN_CLASSES, c << 8 | 255)] & 255); }

#if RNN_LOOKS_UP_CASE
/* A character in lower case; of U+0130 there are two. */
static int lower_case(uint32_t c, uint32_t *out) {
    int place = find(CAPITALS, RNN_CAPITALS, c);
    out[0] = place >= 0 && CAPITALS[place] == c ? SMALL[place] : c;
    out[1] = 0x307;
    return c == 0x130 ? (out[0] = 'i', 2) : 1;
}

static int put_utf8(uint32_t c, unsigned char *out) {
    int length = 0;
    if (c >= 0xD800 && c < 0xE000) c = '?';
    if (c < 0x80) out[length++] = (unsigned char)c;
    else if (c < 0x800) out[length++] = (unsigned char)(0xC0 | c >> 6);
    else {
        if (c < 0x10000) out[length++] = (unsigned char)(0xE0 | c >> 12);
        else {
            out[length++] = (unsigned char)(0xF0 | c >> 18);
            out[length++] = (unsigned char)(0x80 | (c >> 12 & 0x3F));
        }
        out[length++] = (unsigned char)(0x80 | (c >> 6 & 0x3F));
    }
    if (c >= 0x80) out[length++] = (unsigned char)(0x80 | (c & 0x3F));
    return length;
}
#endif

/* Decode UTF-8 into model->text; what is no UTF-8 is U+FFFD. Returns the number of characters. */
static int decode(rnn_model *model, const char *bytes) {
    const unsigned char *t = (const unsigned char *)bytes;
    int count = 0;
    while (*t && count < RNN_TEXT) {
        uint32_t c = *t++;
        if (c >= 0x80) {
            int more = c >= 0xF8 ? 0 : c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : c >= 0xC0 ? 1 : 0, i = 0;
            uint32_t value = c & (0x3Fu >> more);
            for (; i < more && (t[i] & 0xC0) == 0x80; i++) value = value << 6 | (t[i] & 0x3Fu);
            if (more && i == more && value < 0x110000) c = value, t += more;
            else c = 0xFFFD;
        }
        model->text[count++] = c;
    }
    return count;
}

#if RNN_WORDS
typedef struct { unsigned char bytes[RNN_LONGEST_WORD + 8]; int length; } rnn_key;

static void put(rnn_key *key, uint32_t c) {
    if (key->length <= RNN_LONGEST_WORD) key->length += put_utf8(c, key->bytes + key->length); /* longer ones are no token */
}

static void put_lower(rnn_key *key, uint32_t c) {
    uint32_t lower[2];
    int count = lower_case(c, lower);
    for (int i = 0; i < count; i++) put(key, lower[i]);
}

static int id_of(const rnn_key *key) {
    int low = 0, high = RNN_WORDS;
    while (low < high) {
        int middle = (low + high) / 2, length = (int)(WORD_STARTS[middle + 1] - WORD_STARTS[middle]);
        int order = memcmp(WORD_BYTES + WORD_STARTS[middle], key->bytes, (size_t)(length < key->length ? length : key->length));
        if (!order) order = length - key->length;
        if (!order) return (int)WORD_IDS[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return -1;
}

/* The id of a word, else of it in lower case, else of its shape, the most specific first. */
static int word_id(const uint32_t *word, int size) {
    rnn_key key;
    int id, digits = 0, upper = 0, lower = 0, hyphen = 0;
    key.length = 0;
    for (int i = 0; i < size; i++) put(&key, word[i]);
    if ((id = id_of(&key)) >= 0) return id;
    key.length = 0;
    for (int i = 0; i < size; i++) put_lower(&key, word[i]);
    if ((id = id_of(&key)) >= 0) return id;
    while (size && class_of(word[0]) & BLANK) word++, size--;
    while (size && class_of(word[size - 1]) & BLANK) size--;
    for (int i = 0; i < size; i++) {
        int class = class_of(word[i]);
        digits |= class & DIGIT, upper |= class & UPPER, lower |= class & LOWER, hyphen |= i && word[i] == '-';
    }
    for (int suffix = size > 4 ? 4 : size - 1; suffix >= 0; suffix--) {
        key.length = 0;
        put(&key, 0);
        if (upper && !lower && size > 1) put(&key, 'A');
        else if (class_of(word[0]) & UPPER) put(&key, 'a');
        if (digits) put(&key, '9');
        if (hyphen) put(&key, '-');
        put(&key, '~');
        for (int i = size - suffix; i < size; i++) put_lower(&key, word[i]);
        if ((id = id_of(&key)) >= 0) return id;
    }
    return RNN_UNKNOWN;
}

#if !RNN_SPACES
static int is_letter(uint32_t c) { return (class_of(c) & (WORD | DECIMAL)) == WORD; }
#endif

/* The end of the word that begins at a place, or the place itself if none does. */
static int word_end(const uint32_t *text, int place, int count) {
    int end = place;
#if RNN_SPACES
    while (end < count && !(class_of(text[end]) & BLANK)) end++;
    return end;
#else
    if (text[place] == ' ' && place + 1 < count && !(class_of(text[place + 1]) & BLANK)) end++;
    if (is_letter(text[end])) {
        for (;;) {
            while (end < count && is_letter(text[end])) end++;
            if (end + 1 >= count || (text[end] != '\'' && text[end] != 0x2019) || !is_letter(text[end + 1])) return end;
            end++;
        }
    }
    if (class_of(text[end]) & DECIMAL) {
        while (end < count && class_of(text[end]) & DECIMAL) end++;
        return end;
    }
    return end + 1;
#endif
}
#else
static int character_id(uint32_t c) {
    int place = find(CHARACTERS, RNN_CHARACTERS, c);
    return place >= 0 && CHARACTERS[place] == c ? (int)CHARACTER_IDS[place] : RNN_UNKNOWN;
}
#endif

/* Read a text into model->ids; leave in model->text what n-grams are taken from. */
static void read_tokens(rnn_model *model, const char *bytes) {
    uint32_t *text = model->text;
    int count = decode(model, bytes), is_blank = 1;
    model->num_steps = 0;
    for (int i = 0; i < count; i++) is_blank &= (class_of(text[i]) & BLANK) != 0;
    model->num_text = count;
    if (is_blank) return;
#if !RNN_WORDS
    model->num_steps = model->num_text = count < RNN_STEPS ? count : RNN_STEPS;
    for (int i = 0; i < model->num_steps; i++) model->ids[i] = character_id(text[i]);
#else
    int place = 0, kept = 0;
    if (!RNN_SPACES) memmove(text + 1, text, sizeof *text * (size_t)count++), text[0] = ' ';
    for (; place < count && model->num_steps < RNN_STEPS;) {
        int end = word_end(text, place, count);
        if (end > place) {
            model->ids[model->num_steps++] = word_id(text + place, end - place);
            kept = end;
        } else end++;
        place = end;
    }
    int is_cut = 0;
    for (int i = kept; i < count; i++) is_cut |= !RNN_SPACES || !(class_of(text[i]) & BLANK);
    if (is_cut) model->num_text = kept;
    if (!RNN_SPACES && !is_cut) memmove(text, text + 1, sizeof *text * (size_t)--count); /* a space was put before it */
    if (RNN_SPACES && is_cut) { /* one space between words, none before the first one */
        int size = 0;
        for (int i = 0; i < kept; i++) {
            if (!(class_of(text[i]) & BLANK)) text[size++] = text[i];
            else if (size && !(class_of(text[i + 1]) & BLANK)) text[size++] = ' ';
        }
        model->num_text = size;
    }
#endif
}

/* ---- n-grams ---- */

#if RNN_NGRAMS
#define MULTIPLIER UINT64_C(0x9E3779B97F4A7C15)

static uint32_t mix(uint64_t value, uint64_t kind) {
    uint64_t mixed = (value + kind + 1) * MULTIPLIER;
    return (uint32_t)(((mixed ^ mixed >> 29) * MULTIPLIER) >> 32);
}

static uint64_t crc_of(const uint32_t *word, int size) {
    uint32_t crc = 0xFFFFFFFFu;
    for (int i = 0; i < size; i++) {
        unsigned char bytes[4];
        int length = put_utf8(word[i], bytes);
        for (int j = 0; j < length; j++) {
            crc ^= bytes[j];
            for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
        }
    }
    return crc ^ 0xFFFFFFFFu;
}

static void sift(uint32_t *heap, int place, int count) {
    for (int child; (child = 2 * place + 1) < count; place = child) {
        if (child + 1 < count && heap[child + 1] > heap[child]) child++;
        if (heap[place] >= heap[child]) return;
        uint32_t larger = heap[child];
        heap[child] = heap[place], heap[place] = larger;
    }
}

static void sort(uint32_t *numbers, int count) {
    for (int i = count / 2 - 1; i >= 0; i--) sift(numbers, i, count);
    for (int i = count - 1; i > 0; i--) {
        uint32_t largest = numbers[0];
        numbers[0] = numbers[i], numbers[i] = largest;
        sift(numbers, 0, i);
    }
}

/* The n-grams of words: each, pairs, each with the first two, and how many there are. */
static int hash_words(rnn_model *model, int size) {
    uint32_t *hashes = model->hashes, even = RNN_NGRAM_VERSION > 1 ? ~(uint32_t)1 : ~(uint32_t)0;
    uint64_t last = 0, first = 0;
    int count = 0, words = 0;
    for (int place = 0, end; place < size; place = end) {
        int class = class_of(model->ngram_text[place]);
        end = place + 1;
        if (class & BLANK) continue;
        if (class & WORD)
            while (end < size && class_of(model->ngram_text[end]) & WORD) end++;
        uint64_t hash = crc_of(model->ngram_text + place, end - place), pair = last * MULTIPLIER + hash;
        hashes[count++] = mix(hash, 0) & even;
        if (words) hashes[count++] = mix(pair, 1) & even;
        if (words == 1) first = pair;
        if (words > 1 && RNN_NGRAM_VERSION > 1) hashes[count++] = mix(first * MULTIPLIER + hash, 100) & even;
        last = hash, words++;
    }
    if (RNN_NGRAM_VERSION > 1) hashes[count++] = mix((uint64_t)(words < RNN_MAX_WORDS ? words : RNN_MAX_WORDS), 101) & even;
    return count;
}

static uint32_t at(const uint32_t *text, int place, int length) { return place < 0 || place >= length ? ' ' : text[place]; }

/* How often the run of `size` characters at `start` has occurred before. */
static int earlier_runs(const uint32_t *text, int length, int start, int size) {
    int times = 0;
    for (int other = -1; other < start; other++) {
        int i = 0;
        while (i < size && at(text, other + i, length) == at(text, start + i, length)) i++;
        times += i == size;
    }
    return times;
}

/* Runs of characters, a space before and after the text, and one for the blanks between words. */
static int hash_runs(rnn_model *model, int size, int count) {
    uint32_t *text = model->ngram_text, odd = RNN_NGRAM_VERSION > 1;
    int length = 0;
    for (int i = 0; i < size; i++) {
        if (!(class_of(text[i]) & BLANK)) text[length++] = text[i];
        else if (length && text[length - 1] != ' ') text[length++] = ' ';
    }
    if (length && text[length - 1] == ' ') length--;
    for (int start = -1; start <= length; start++) {
        uint64_t hash = 0;
        for (int i = 0; i < RNN_MAX_RUN && start + i <= length; i++) {
            hash = hash * MULTIPLIER + at(text, start + i, length);
            model->hashes[count++] = mix(hash, (uint64_t)i + 2) | odd;
            if (i >= RNN_COUNTED_RUN) continue;
            int times = earlier_runs(text, length, start, i + 1);
            uint64_t again = hash * MULTIPLIER + (uint64_t)times;
            if (times && times < RNN_MAX_COUNT) model->hashes[count++] = mix(again, (uint64_t)i + 200) | odd;
        }
    }
    return count;
}

/* The n-grams of the text that was read. */
static int hash_text(rnn_model *model) {
    int size = 0, start = 0;
    for (int i = 0; i < model->num_text; i++) {
        if (RNN_KEEPS_CASE) model->ngram_text[size++] = model->text[i];
        else size += lower_case(model->text[i], model->ngram_text + size);
        if (i < RNN_NGRAM_CHARACTERS) start = size;
    }
    return hash_runs(model, start, hash_words(model, size));
}

/* Add the logits of the linear classifier of n-grams, or take a weighted mean of numbers. */
static void add_ngrams(rnn_model *model, const float *helped) {
    double sums[RNN_ANSWERS] = {0}, squares = 0;
    int count = hash_text(model);
    sort(model->hashes, count);
    for (int i = 0; i < count; i++) {
        if (i && model->hashes[i] == model->hashes[i - 1]) continue;
        int bucket = (int)(model->hashes[i] % RNN_BUCKETS);
        double weight = NGRAM_WEIGHTS[bucket];
        squares += weight * weight;
        for (int j = 0; j < RNN_ANSWERS; j++) {
            float value = (float)NGRAM_TABLE.weight[(long)bucket * RNN_ANSWERS + j];
            if (NGRAM_TABLE.scale) value *= NGRAM_TABLE.scale[bucket];
            sums[j] += weight * value;
        }
    }
    double factor = RNN_NGRAM_SCALE / sqrt(squares > RNN_MIN_SQUARES ? squares : RNN_MIN_SQUARES);
    for (int j = 0; j < RNN_ANSWERS; j++) {
        float fitted = (float)(sums[j] * factor) + NGRAM_BIAS[j] + (helped ? helped[j] : 0.0f);
        model->values[j] += RNN_SHARE * (RNN_NUMBER ? fitted - model->values[j] : fitted);
    }
}
#endif

/* ---- network ---- */

static void product(const rnn_matrix *matrix, const float *x, float *y) {
    for (int row = 0; row < matrix->rows; row++) {
        const rnn_weight *weight = matrix->weight + (long)row * matrix->columns;
        float sum = 0;
        for (int column = 0; column < matrix->columns; column++) sum += (float)weight[column] * x[column];
        y[row] = matrix->scale ? sum * matrix->scale[row] : sum;
    }
}

static void vector_of(const rnn_matrix *matrix, int row, float *x) {
    float scale = matrix->scale ? matrix->scale[row] : 1.0f;
    for (int column = 0; column < matrix->columns; column++) x[column] = scale * (float)matrix->weight[(long)row * matrix->columns + column];
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

static void layer_norm(const float *x, int size, const float *weight, const float *bias, float *y) {
    double mean = 0, variance = 0;
    for (int i = 0; i < size; i++) mean += x[i];
    mean /= size;
    for (int i = 0; i < size; i++) variance += (x[i] - mean) * (x[i] - mean);
    float factor = 1.0f / sqrtf((float)(variance / size) + 1e-5f);
    for (int i = 0; i < size; i++) y[i] = (float)(x[i] - mean) * factor * weight[i] + bias[i];
}

/* Replace h, and c of an LSTM, by the next state after the input x. */
static void cell_step(rnn_model *model, const rnn_layer *layer, const float *x, float *h, float *c) {
    float *gates = model->gates, *recurrent = model->recurrent;
    int size = layer->hidden, rows = layer->input.rows;
    product(&layer->input, x, gates);
    product(&layer->recurrent, h, recurrent);
    for (int i = 0; i < rows; i++) gates[i] += layer->bias[i];
    for (int i = 0; layer->bias_hh && i < rows; i++) recurrent[i] += layer->bias_hh[i];
    if (layer->cell == 0)
        for (int i = 0; i < size; i++) h[i] = tanhf(gates[i] + recurrent[i]);
    else if (layer->cell == 3)
        for (int i = 0; i < size; i++) {
            float in = sigmoid(gates[i] + recurrent[i]), forget = sigmoid(gates[size + i] + recurrent[size + i]);
            c[i] = forget * c[i] + in * tanhf(gates[2 * size + i] + recurrent[2 * size + i]);
            h[i] = sigmoid(gates[3 * size + i] + recurrent[3 * size + i]) * tanhf(c[i]);
        }
    else {
        for (int i = 0; i < 2 * size; i++) gates[i] = sigmoid(gates[i] + recurrent[i]);
        if (layer->cell == 2) { /* the reset gate before the product */
            rnn_matrix rest = layer->recurrent;
            rest.rows = size, rest.weight += 2L * size * rest.columns;
            if (rest.scale) rest.scale += 2 * size;
            for (int i = 0; i < size; i++) gates[i] *= h[i];
            product(&rest, gates, recurrent + 2 * size);
            for (int i = 0; i < size; i++) gates[2 * size + i] += recurrent[2 * size + i] + (layer->bias_hh ? layer->bias_hh[2 * size + i] : 0.0f);
        } else
            for (int i = 0; i < size; i++) gates[2 * size + i] += gates[i] * recurrent[2 * size + i];
        for (int i = 0; i < size; i++) h[i] = (1.0f - gates[size + i]) * tanhf(gates[2 * size + i]) + gates[size + i] * h[i];
    }
}

#if !RNN_BOTH_WAYS || (RNN_BASE && RNN_NGRAMS)
/* Read a step with a stack of layers: x becomes its output. */
static void stack_step(rnn_model *model, const rnn_layer *layers, int count, float *x) {
    for (int index = 0; index < count; index++) {
        const rnn_layer *layer = &layers[index];
        const float *in = x;
        if (layer->norm_weight) layer_norm(x, layer->hidden, layer->norm_weight, layer->norm_bias, model->in), in = model->in;
        cell_step(model, layer, in, model->h[index], model->c[index]);
        for (int i = 0; i < layer->hidden; i++) x[i] = (layer->norm_weight ? x[i] : 0.0f) + model->h[index][i];
    }
}
#endif

static void clear_state(rnn_model *model) {
    memset(model->h, 0, sizeof model->h);
    memset(model->c, 0, sizeof model->c);
}

static void encode(rnn_model *model) {
    int steps = model->num_steps;
    clear_state(model);
    for (int t = 0; t < steps; t++) vector_of(&EMBEDDING, model->ids[t], model->x[t]);
#if RNN_BOTH_WAYS
    for (int index = 0; index < RNN_LAYERS; index++) {
        const rnn_layer *ahead = &LAYERS[index], *back = &BACKWARD[index];
        clear_state(model);
        for (int t = 0; t < steps; t++) layer_norm(model->x[t], RNN_HIDDEN, ahead->norm_weight, ahead->norm_bias, model->normed[t]);
        for (int t = 0; t < steps; t++) {
            cell_step(model, ahead, model->normed[t], model->h[0], model->c[0]);
            for (int i = 0; i < ahead->hidden; i++) model->x[t][i] += model->h[0][i];
        }
        clear_state(model);
        for (int t = steps - 1; t >= 0; t--) {
            cell_step(model, back, model->normed[t], model->h[0], model->c[0]);
            for (int i = 0; i < back->hidden; i++) model->x[t][ahead->hidden + i] += model->h[0][i];
        }
    }
#else
    for (int t = 0; t < steps; t++) stack_step(model, LAYERS, RNN_LAYERS, model->x[t]);
#endif
    for (int t = 0; t < steps; t++) {
        memcpy(model->in, model->x[t], sizeof model->x[t]);
        layer_norm(model->in, RNN_HIDDEN, NORM_WEIGHT, NORM_BIAS, model->x[t]);
    }
}

#if !RNN_TAGGER
static void pool(rnn_model *model) {
    int steps = model->num_steps;
    float *pooled = model->pooled;
#if RNN_POOL_LAST
    memcpy(pooled, model->x[steps - 1], sizeof model->pooled);
    for (int i = RNN_HIDDEN / 2; RNN_BOTH_WAYS && i < RNN_HIDDEN; i++) pooled[i] = model->x[0][i];
#elif RNN_POOL_MAX
    memcpy(pooled, model->x[0], sizeof model->pooled);
    for (int t = 1; t < steps; t++)
        for (int i = 0; i < RNN_HIDDEN; i++) pooled[i] = model->x[t][i] > pooled[i] ? model->x[t][i] : pooled[i];
#else
    double total = 0;
    float largest = -HUGE_VALF;
    for (int t = 0; t < steps; t++) {
        model->scores[t] = 0;
#if RNN_POOL_ATTENTION
        product(&POOL_HIDDEN, model->x[t], model->in);
        for (int i = 0; i < POOL_HIDDEN.rows; i++) model->in[i] = tanhf(model->in[i] + POOL_HIDDEN_BIAS[i]);
        product(&POOL_SCORE, model->in, &model->scores[t]);
#endif
        largest = model->scores[t] > largest ? model->scores[t] : largest;
    }
    for (int t = 0; t < steps; t++) total += model->scores[t] = expf(model->scores[t] - largest);
    memset(pooled, 0, sizeof model->pooled);
    for (int t = 0; t < steps; t++)
        for (int i = 0; i < RNN_HIDDEN; i++) pooled[i] += (float)(model->scores[t] / total) * model->x[t][i];
#endif
}
#endif

#if RNN_BASE && RNN_NGRAMS
static void base_step(rnn_model *model, int id, int steps) {
    float *x = model->base_x, *mean = model->features, *most = mean + RNN_BASE, *least = most + RNN_BASE, *last = least + RNN_BASE;
    vector_of(&BASE_VECTORS, id, x);
    stack_step(model, BASE_LAYERS, RNN_BASE_LAYERS, x);
    for (int i = 0; i < RNN_BASE; i++) {
        mean[i] = (steps ? mean[i] : 0.0f) + x[i];
        most[i] = !steps || x[i] > most[i] ? x[i] : most[i];
        least[i] = !steps || x[i] < least[i] ? x[i] : least[i];
        last[i] = x[i];
    }
}

/* The logits of the language model that helps: it reads a line end, the first characters, and a line end. */
static void read_base(rnn_model *model, float *logits) {
    int steps = 0, count = model->num_text < RNN_BASE_CHARACTERS ? model->num_text : RNN_BASE_CHARACTERS;
    clear_state(model);
    for (int i = -1; i <= count; i++) {
        uint32_t c = i < 0 || i == count ? '\n' : model->text[i];
#if RNN_BASE_BYTES
        unsigned char bytes[4];
        int length = put_utf8(c, bytes);
        for (int j = 0; j < length; j++) base_step(model, bytes[j], steps++);
#else
        int place = find(BASE_CODES, RNN_BASE_CODES, c);
        base_step(model, place >= 0 && BASE_CODES[place] == c ? (int)BASE_IDS[place] : RNN_BASE_OTHER, steps++);
#endif
    }
    for (int i = 0; i < RNN_BASE; i++) model->features[i] /= (float)steps;
    for (int i = 0; i < 4 * RNN_BASE; i++) model->features[i] = (model->features[i] - BASE_MEANS[i]) * BASE_SCALES[i];
    product(&BASE_TABLE, model->features, logits);
}
#endif

int rnn_predict(rnn_model *model, const char *text, float *outputs) {
    read_tokens(model, text);
    if (!model->num_steps) return 0;
    encode(model);
    int vectors = RNN_TAGGER ? model->num_steps : 1;
#if !RNN_TAGGER
    pool(model);
#endif
    for (int t = 0; t < vectors; t++) {
        float *values = model->values + t * RNN_ANSWERS;
        product(&HEAD, RNN_TAGGER ? model->x[t] : model->pooled, values);
        for (int j = 0; j < RNN_ANSWERS; j++) values[j] += HEAD_BIAS[j];
    }
#if RNN_NGRAMS
#if RNN_BASE
    float helped[RNN_ANSWERS];
    read_base(model, helped);
    add_ngrams(model, helped);
#else
    add_ngrams(model, 0);
#endif
#endif
    for (int t = 0; t < vectors; t++) {
        float *values = model->values + t * RNN_ANSWERS, *out = outputs + t * RNN_ANSWERS;
#if RNN_NUMBER
        for (int j = 0; j < RNN_ANSWERS; j++) out[j] = values[j] * SPREAD[j] + CENTER[j];
#else
        float largest = -HUGE_VALF;
        double total = 0;
        for (int j = 0; j < RNN_ANSWERS; j++) values[j] /= RNN_TEMPERATURE, largest = values[j] > largest ? values[j] : largest;
        for (int j = 0; j < RNN_ANSWERS; j++) total += out[j] = expf(values[j] - largest);
        for (int j = 0; j < RNN_ANSWERS; j++) out[j] = (float)(out[j] / total);
#endif
    }
    return model->num_steps;
}

#if !RNN_NUMBER
int rnn_best(const float *probabilities) {
    int best = 0;
    if (RNN_THRESHOLD >= 0 && RNN_ANSWERS == 2) return probabilities[1] >= RNN_THRESHOLD;
    for (int i = 1; i < RNN_ANSWERS; i++)
        if (probabilities[i] > probabilities[best]) best = i;
    return best;
}

const char *rnn_label(int index) { return LABELS[index]; }
#endif

#if defined(TEST)
#include <stdio.h>

@VECTORS@

int main(void) {
    static rnn_model model;
    static float outputs[RNN_VALUES];
    long compared = 0;
    for (int i = 0; i < TEST_CASES; i++) {
        int steps = rnn_predict(&model, TEST_TEXTS[i], outputs), count = RNN_ANSWERS * (RNN_TAGGER ? steps : 1);
        if (count != TEST_COUNTS[i]) {
            fprintf(stderr, "text %d: %d outputs, expected %d\n", i, count, TEST_COUNTS[i]);
            return 1;
        }
        for (int j = 0; j < count; j++, compared++) {
            double error = fabs(model.values[j] - TEST_OUTPUTS[compared]);
            if (!(error <= TEST_TOLERANCE)) {
                fprintf(stderr, "text %d, output %d: %.9g, expected %.9g\n", i, j, model.values[j], TEST_OUTPUTS[compared]);
                return 1;
            }
        }
    }
    printf("ok: %ld outputs of %d texts\n", compared, TEST_CASES);
    return 0;
}
#elif defined(MAIN)
#include <stdio.h>

int main(void) {
    static rnn_model model;
    static char line[4 * RNN_TEXT + 8];
    static float outputs[RNN_VALUES];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = 0;
        int steps = rnn_predict(&model, line, outputs), vectors = !steps ? 0 : RNN_TAGGER ? steps : 1;
        for (int t = 0; t < vectors; t++) {
            const float *out = outputs + t * RNN_ANSWERS;
#if RNN_NUMBER
            for (int i = 0; i < RNN_ANSWERS; i++) printf(i ? ",%.9g" : "%.9g", out[i]);
#else
            if (RNN_TAGGER) printf(t ? " %s" : "%s", LABELS[rnn_best(out)]);
            else printf("%s\t%.4f", LABELS[rnn_best(out)], out[rnn_best(out)]);
#endif
        }
        printf("\n");
    }
    return 0;
}
#endif
