/* @TITLE@

   Written by unrolled @VERSION@. One C99 file, no memory allocation; math.h for sqrtf alone.

     cc -O3 -DTEST @FILE@ -lm && ./a.out                       replays the test vectors below: every logit, every state
     cc -O3 -DMAIN @FILE@ -lm && ./a.out 500 0.8 1 "The "      length, temperature, seed, prompt

     static rnn_model model;                                   @RAM@ bytes of RAM; @FLASH@ bytes of tables
     rnn_init(&model);                                         the zero state
     rnn_step(&model, token);                                  model.logits[] are those of the next token
     int next = rnn_sample(&model, 0.8f, seed, position);      position counts the tokens drawn, from 0

   The arithmetic is the portable step of unrolled (docs/portable.md): the same bits on every processor@SAME_TEXT@.
   It needs IEEE float32 with one rounding per operation, so compile without -ffast-math. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__)
#error "compile without -ffast-math: the order of floating-point operations matters here"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "float operations must be rounded to float: on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#endif

@DEFINES@

typedef struct {
    float h[RNN_LAYERS][RNN_HIDDEN];
#if RNN_LSTM || RNN_SLSTM
    float c[RNN_LAYERS][RNN_HIDDEN];
#endif
#if RNN_SLSTM
    float n[RNN_LAYERS][RNN_HIDDEN], m[RNN_LAYERS][RNN_HIDDEN];
#endif
    float logits[RNN_VOCAB];
    /* Work space of a step; nothing in it is kept. */
    float x[RNN_WIDTH], normed[RNN_WIDTH], gates[RNN_GATES * RNN_HIDDEN];
#if !RNN_LINEAR
    float recurrent[RNN_GATES * RNN_HIDDEN];
#endif
#if RNN_MOGRIFIER
    float factors[RNN_WIDTH], modulated[RNN_HIDDEN];
#endif
    int16_t quantized[RNN_WIDTH + 31];
} rnn_model;

void rnn_init(rnn_model *model);
void rnn_step(rnn_model *model, int token);
int rnn_sample(const rnn_model *model, float temperature, uint64_t seed, uint64_t position);
int rnn_token(uint32_t code_point); /* a character or byte to its token; -1 if the model does not know it */
int rnn_text(int token, char text[5]); /* a token as UTF-8 (or one byte); returns the number of bytes, 0 for the end token */

/* Matrices: rows of int8 with a scale each; rows of 4-bit weights in groups of 32 columns; or float. */
typedef struct { int rows, columns; const int8_t *weight; const float *scale; } int8_matrix;
typedef struct { int rows, columns; const uint8_t *weight; const uint8_t *group_scale; const float *scale; } int4_matrix;
typedef struct { int rows, columns; const float *weight; } float_matrix;

#if RNN_WEIGHTS == 32
typedef float_matrix cell_matrix;
typedef float_matrix table_matrix;
#define CELL_PRODUCT float_product
#define TABLE_PRODUCT float_product
#elif RNN_WEIGHTS == 8
typedef int8_matrix cell_matrix;
typedef int8_matrix table_matrix;
#define CELL_PRODUCT int8_product
#define TABLE_PRODUCT int8_product
#else
typedef int4_matrix cell_matrix;
typedef int8_matrix table_matrix;
#define CELL_PRODUCT int4_product
#define TABLE_PRODUCT int8_product
#endif

typedef struct {
    cell_matrix input, recurrent, recurrent_n;
    const float *bias, *bias_hh, *norm_weight, *norm_bias;
#if RNN_MOGRIFIER
    cell_matrix rounds[RNN_MOGRIFIER]; /* of the input in the first, third ... round, of h in the others */
#endif
#if RNN_RG_LRU
    const float *decay;
#endif
} rnn_layer;

@TABLES@

#if RNN_RESIDUAL || RNN_WEIGHTS == 32
/* The sum of a[i], or of a[i] * b[i]: 16 partial sums over the columns j, j + 16, ..., then a tree. */
static float ordered_sum(const float *a, const float *b, int size) {
    float sums[16] = {0};
    int i = 0;
    for (; i + 16 <= size; i += 16)
        for (int j = 0; j < 16; j++) sums[j] += b ? a[i + j] * b[i + j] : a[i + j];
    for (int j = 0; i + j < size; j++) sums[j] += b ? a[i + j] * b[i + j] : a[i + j];
    for (int width = 8; width; width /= 2)
        for (int j = 0; j < width; j++) sums[j] += sums[j + width];
    return sums[0];
}
#endif

#if RNN_WEIGHTS != 32
/* Integers of at most 32767 in place of x; returns their scale. */
static float quantize(const float *x, int size, int16_t *quantized) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to the nearest integer, halves to even */
    float largest = 0;
    for (int i = 0; i < size; i++) {
        float value = x[i] < 0 ? -x[i] : x[i];
        largest = value > largest ? value : largest;
    }
    float factor = largest < 7.8886090522e-31f ? 0 : 32767.0f / largest; /* 2^-100 */
    for (int i = 0; i < size; i++) quantized[i] = (int16_t)((x[i] * factor + round) - round);
    for (int i = size; i % 32; i++) quantized[i] = 0;
    return largest / 32767.0f;
}

static void int8_product(const int8_matrix *matrix, const float *x, int16_t *quantized, float *out) {
    float input_scale = quantize(x, matrix->columns, quantized);
    int rows = matrix->rows, columns = matrix->columns;
    for (int row = 0; row < rows; row += 4) { /* four rows at once are 1.3 times as fast: each number of x is loaded once */
        const int8_t *w0 = matrix->weight + (long)row * columns;
        const int8_t *w1 = row + 1 < rows ? w0 + columns : w0;
        const int8_t *w2 = row + 2 < rows ? w1 + columns : w0;
        const int8_t *w3 = row + 3 < rows ? w2 + columns : w0;
        float total[4] = {0};
        for (int start = 0; start < columns; start += 512) { /* 512 * 127 * 32767 is below 2^31 */
            int stop = start + 512 < columns ? start + 512 : columns;
            int32_t a = 0, b = 0, c = 0, d = 0;
            for (int i = start; i < stop; i++) {
                int32_t q = quantized[i];
                a += w0[i] * q;
                b += w1[i] * q;
                c += w2[i] * q;
                d += w3[i] * q;
            }
            total[0] += (float)a;
            total[1] += (float)b;
            total[2] += (float)c;
            total[3] += (float)d;
        }
        for (int i = 0; i < 4 && row + i < rows; i++) out[row + i] = total[i] * (matrix->scale[row + i] * input_scale);
    }
}
#endif

#if RNN_WEIGHTS == 4
static void int4_product(const int4_matrix *matrix, const float *x, int16_t *quantized, float *out) {
    float input_scale = quantize(x, matrix->columns, quantized);
    int groups = (matrix->columns + 31) / 32;
    for (int row = 0; row < matrix->rows; row++) {
        float total = 0;
        for (int group = 0; group < groups; group++) { /* a byte holds the columns j (low half) and j + 16 (high half), plus 8 */
            const uint8_t *weight = matrix->weight + ((long)row * groups + group) * 16;
            const int16_t *q = quantized + group * 32;
            int32_t exact = 0;
            for (int j = 0; j < 16; j++) exact += ((weight[j] & 15) - 8) * q[j] + ((weight[j] >> 4) - 8) * q[j + 16];
            total += (float)(exact * matrix->group_scale[(long)row * groups + group]);
        }
        out[row] = total * (matrix->scale[row] * input_scale);
    }
}
#endif

#if RNN_WEIGHTS == 32
static void float_product(const float_matrix *matrix, const float *x, int16_t *quantized, float *out) {
    (void)quantized;
    for (int row = 0; row < matrix->rows; row++) out[row] = ordered_sum(matrix->weight + (long)row * matrix->columns, x, matrix->columns);
}
#endif

static float rnn_tanh(float x) {
    x = x > -9.02f ? x : -9.02f;
    x = x < 9.02f ? x : 9.02f;
    float s = x * x;
    float p = @TANH_P@;
    float q = @TANH_Q@;
    float y = (x * p) / q;
    y = y > -1.0f ? y : -1.0f;
    return y < 1.0f ? y : 1.0f;
}

#if RNN_HARD_SIGMOID
static float rnn_sigmoid(float x) {
    float y = 0.2f * x + 0.5f;
    y = y > 0.0f ? y : 0.0f;
    return y < 1.0f ? y : 1.0f;
}
#elif !RNN_PLAIN
static float rnn_sigmoid(float x) { return 0.5f * rnn_tanh(0.5f * x) + 0.5f; }
#endif

static float rnn_exp(float x) {
    const float round = 12582912.0f;
    x = x > -87.0f ? x : -87.0f;
    float n = (x * @LOG2_E@ + round) - round;
    float r = (x - n * @LN2_HIGH@) - n * @LN2_LOW@;
    float p = @EXP@;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

#if RNN_SLSTM || RNN_MINLSTM
/* ln(1 / (1 + e^-x)). */
static float log_sigmoid(float x) {
    float u = rnn_exp(x > 0 ? -x : x), s = u / (u + 2.0f), square = s * s;
    float p = @LOG1P@;
    return (x > 0 ? 0.0f : x) - s * p;
}
#endif

#if RNN_RG_LRU
/* e^x - 1 for x of at most 0. */
static float rnn_expm1(float x) {
    float p = @EXPM1@;
    return x > -0.34f ? x * p : rnn_exp(x) - 1.0f;
}
#endif

#if RNN_RESIDUAL
static void layer_norm(const float *x, const float *weight, const float *bias, float *out) {
    float mean = ordered_sum(x, 0, RNN_HIDDEN) / (float)RNN_HIDDEN;
    for (int i = 0; i < RNN_HIDDEN; i++) out[i] = x[i] - mean;
    float variance = ordered_sum(out, out, RNN_HIDDEN) / (float)RNN_HIDDEN;
    float factor = 1.0f / sqrtf(variance + 1e-5f);
    for (int i = 0; i < RNN_HIDDEN; i++) out[i] = (out[i] * factor) * weight[i] + bias[i];
}
#endif

#if RNN_MOGRIFIER
/* Input and h, in model->normed and model->modulated, each in turn times a factor from the other. */
static void mogrify(rnn_model *model, const rnn_layer *layer) {
    float *x = model->normed, *h = model->modulated, *factors = model->factors;
    for (int round = 0; round < RNN_MOGRIFIER; round++) {
        const cell_matrix *matrix = &layer->rounds[round];
        float *to = round % 2 ? h : x;
        CELL_PRODUCT(matrix, round % 2 ? x : h, model->quantized, factors);
        for (int i = 0; i < matrix->rows; i++) to[i] = (rnn_tanh(0.5f * factors[i]) + 1.0f) * to[i];
    }
}
#endif

/* The next state of a layer, given the products of its input in model->gates. Gate order: @GATE_ORDER@. */
static void cell_step(rnn_model *model, const rnn_layer *layer, int index) {
    float *gates = model->gates, *h = model->h[index];
    for (int i = 0; i < RNN_GATES * RNN_HIDDEN; i++) gates[i] += layer->bias[i];
#if RNN_LINEAR
    for (int i = 0; i < RNN_HIDDEN; i++) {
#if RNN_MINGRU
        float share = rnn_sigmoid(gates[i]);
        h[i] = (1.0f - share) * h[i] + share * gates[RNN_HIDDEN + i];
#elif RNN_MINLSTM
        float share = rnn_sigmoid(log_sigmoid(gates[i]) - log_sigmoid(gates[RNN_HIDDEN + i]));
        h[i] = (1.0f - share) * h[i] + share * gates[2 * RNN_HIDDEN + i];
#else
        float log_a = rnn_sigmoid(gates[i]) * layer->decay[i], square = -rnn_expm1(log_a + log_a);
        float written = rnn_sigmoid(gates[RNN_HIDDEN + i]) * gates[2 * RNN_HIDDEN + i];
        h[i] = rnn_exp(log_a) * h[i] + sqrtf(square > 1e-12f ? square : 1e-12f) * written;
#endif
    }
#else
    float *recurrent = model->recurrent;
#if RNN_MOGRIFIER
    const float *read = model->modulated;
#else
    const float *read = h;
#endif
    int rows = layer->recurrent.rows;
    CELL_PRODUCT(&layer->recurrent, read, model->quantized, recurrent);
    if (layer->bias_hh)
        for (int i = 0; i < rows; i++) recurrent[i] += layer->bias_hh[i];
#if RNN_LSTM
    float *c = model->c[index];
    for (int i = 0; i < RNN_HIDDEN; i++) {
        float in = rnn_sigmoid(gates[i] + recurrent[i]);
        float forget = rnn_sigmoid(gates[RNN_HIDDEN + i] + recurrent[RNN_HIDDEN + i]);
        float candidate = rnn_tanh(gates[2 * RNN_HIDDEN + i] + recurrent[2 * RNN_HIDDEN + i]);
        float out = rnn_sigmoid(gates[3 * RNN_HIDDEN + i] + recurrent[3 * RNN_HIDDEN + i]);
        c[i] = forget * c[i] + in * candidate;
        h[i] = out * rnn_tanh(c[i]);
    }
#elif RNN_SLSTM
    float *c = model->c[index], *n = model->n[index], *m = model->m[index];
    for (int i = 0; i < RNN_HIDDEN; i++) {
        float in = gates[i] + recurrent[i];
        float kept = n[i] == 0 ? in : log_sigmoid(gates[RNN_HIDDEN + i] + recurrent[RNN_HIDDEN + i]) + m[i];
        float candidate = rnn_tanh(gates[2 * RNN_HIDDEN + i] + recurrent[2 * RNN_HIDDEN + i]);
        float out = rnn_sigmoid(gates[3 * RNN_HIDDEN + i] + recurrent[3 * RNN_HIDDEN + i]);
        m[i] = kept > in ? kept : in;
        in = rnn_exp(in - m[i]);
        kept = rnn_exp(kept - m[i]);
        c[i] = kept * c[i] + in * candidate;
        n[i] = kept * n[i] + in;
        h[i] = (out * c[i]) / n[i];
    }
#elif RNN_GRU
    float *r = gates, *z = gates + RNN_HIDDEN, *n = gates + 2 * RNN_HIDDEN, *recurrent_n = recurrent + 2 * RNN_HIDDEN;
    for (int i = 0; i < RNN_HIDDEN; i++) {
        r[i] = rnn_sigmoid(r[i] + recurrent[i]);
        z[i] = rnn_sigmoid(z[i] + recurrent[RNN_HIDDEN + i]);
    }
    if (layer->recurrent_n.rows) { /* the reset gate before the product */
        for (int i = 0; i < RNN_HIDDEN; i++) r[i] = r[i] * read[i];
        CELL_PRODUCT(&layer->recurrent_n, r, model->quantized, recurrent_n);
        if (layer->bias_hh)
            for (int i = 0; i < RNN_HIDDEN; i++) recurrent_n[i] += layer->bias_hh[2 * RNN_HIDDEN + i];
        for (int i = 0; i < RNN_HIDDEN; i++) n[i] = rnn_tanh(n[i] + recurrent_n[i]);
    } else {
        for (int i = 0; i < RNN_HIDDEN; i++) n[i] = rnn_tanh(n[i] + r[i] * recurrent_n[i]);
    }
    for (int i = 0; i < RNN_HIDDEN; i++) h[i] = (1.0f - z[i]) * n[i] + z[i] * h[i];
#else
    for (int i = 0; i < RNN_HIDDEN; i++) h[i] = rnn_tanh(gates[i] + recurrent[i]);
#endif
#endif
}

void rnn_init(rnn_model *model) { memset(model, 0, sizeof *model); }

static void step_once(rnn_model *model, int token) {
    float *x = model->x;
#if !RNN_ONE_HOT
    for (int i = 0; i < RNN_EMBEDDING; i++) x[i] = TABLE_VALUE(EMBEDDING, token, i, token);
#endif
    for (int index = 0; index < RNN_LAYERS; index++) {
        const rnn_layer *layer = &LAYERS[index];
#if RNN_ONE_HOT
        if (index == 0)
            for (int i = 0; i < RNN_GATES * RNN_HIDDEN; i++) model->gates[i] = TABLE_VALUE(ONE_HOT, token, i, i);
        else
#endif
        {
            const float *input = x;
#if RNN_RESIDUAL
            layer_norm(x, layer->norm_weight, layer->norm_bias, model->normed);
            input = model->normed;
#endif
#if RNN_MOGRIFIER
            if (!RNN_RESIDUAL) memcpy(model->normed, x, (size_t)layer->input.columns * sizeof *x);
            memcpy(model->modulated, model->h[index], sizeof model->modulated);
            mogrify(model, layer);
            input = model->normed;
#endif
            CELL_PRODUCT(&layer->input, input, model->quantized, model->gates);
        }
        cell_step(model, layer, index);
        for (int i = 0; i < RNN_HIDDEN; i++) x[i] = RNN_RESIDUAL ? x[i] + model->h[index][i] : model->h[index][i];
    }
    TABLE_PRODUCT(&HEAD, x, model->quantized, model->logits);
    for (int i = 0; i < RNN_VOCAB; i++) model->logits[i] += HEAD_BIAS[i];
}

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
/* The same step for the vectors of newer processors: half the time of SSE2, and the same bits, as no sum has another order. */
#define RNN_VECTORS(name) __attribute__((target(name), flatten))
RNN_VECTORS("avx2") static void step_avx2(rnn_model *model, int token) { step_once(model, token); }
RNN_VECTORS("avx512f,avx512bw,avx512dq,avx512vl") static void step_avx512(rnn_model *model, int token) { step_once(model, token); }
#endif

void rnn_step(rnn_model *model, int token) {
#ifdef RNN_VECTORS
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        step_avx512(model, token);
    else if (__builtin_cpu_supports("avx2"))
        step_avx2(model, token);
    else
#endif
        step_once(model, token);
}

/* Philox4x32-10 (Salmon et al. 2011): four random words for a counter and a key. */
static void philox(uint32_t word[4], uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * word[0], b = (uint64_t)0xCD9E8D57u * word[2];
        word[0] = (uint32_t)(b >> 32) ^ word[1] ^ key0;
        word[1] = (uint32_t)b;
        word[2] = (uint32_t)(a >> 32) ^ word[3] ^ key1;
        word[3] = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

static uint64_t random_below(uint64_t limit, uint64_t seed, uint64_t position) {
    uint64_t mask = 0;
    while (mask < limit - 1) mask = mask * 2 + 1;
    for (uint32_t block = 0;; block++) {
        uint32_t word[4] = {(uint32_t)position, (uint32_t)(position >> 32), block, 0};
        philox(word, (uint32_t)seed, (uint32_t)(seed >> 32));
        for (int i = 0; i < 4; i += 2) {
            uint64_t number = ((uint64_t)word[i] << 32 | word[i + 1]) & mask;
            if (number < limit) return number;
        }
    }
}

int rnn_sample(const rnn_model *model, float temperature, uint64_t seed, uint64_t position) {
    int best = 0;
    for (int i = 1; i < RNN_VOCAB; i++)
        if (model->logits[i] > model->logits[best]) best = i;
    if (temperature == 0) return best;
    float largest = model->logits[best] / temperature;
    if (!(largest - largest == 0)) return best; /* infinite: the temperature is almost 0 */
    uint64_t total = 0;
    for (int i = 0; i < RNN_VOCAB; i++) total += (uint64_t)(rnn_exp(model->logits[i] / temperature - largest) * 1073741824.0f);
    uint64_t number = random_below(total, seed, position), cumulative = 0;
    for (int i = 0; i < RNN_VOCAB; i++) {
        cumulative += (uint64_t)(rnn_exp(model->logits[i] / temperature - largest) * 1073741824.0f);
        if (number < cumulative) return i;
    }
    return best;
}

int rnn_token(uint32_t code_point) {
#if RNN_BYTES
    return code_point < 256 ? (int)code_point : -1;
#else
    for (int i = 0; i < RNN_CHARACTERS; i++)
        if (CHARACTERS[i] == code_point) return i;
    return -1;
#endif
}

int rnn_text(int token, char text[5]) {
    int length = 0;
    if (token >= 0 && token < RNN_CHARACTERS) {
#if RNN_BYTES
        text[length++] = (char)token;
#else
        uint32_t c = CHARACTERS[token];
        if (c < 0x80) text[length++] = (char)c;
        else if (c < 0x800) text[length++] = (char)(0xC0 | c >> 6);
        else {
            if (c < 0x10000) text[length++] = (char)(0xE0 | c >> 12);
            else {
                text[length++] = (char)(0xF0 | c >> 18);
                text[length++] = (char)(0x80 | (c >> 12 & 0x3F));
            }
            text[length++] = (char)(0x80 | (c >> 6 & 0x3F));
        }
        if (c >= 0x80) text[length++] = (char)(0x80 | (c & 0x3F));
#endif
    }
    text[length] = 0;
    return length;
}

#if defined(TEST)
#include <stdio.h>

@VECTORS@

static uint32_t hash_floats(uint32_t hash, const float *values, int count) {
    for (int i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        hash = (hash ^ bits) * 16777619u;
    }
    return hash;
}

static uint32_t hash_model(const rnn_model *model) {
    uint32_t hash = hash_floats(2166136261u, model->logits, RNN_VOCAB);
    for (int layer = 0; layer < RNN_LAYERS; layer++) {
        hash = hash_floats(hash, model->h[layer], RNN_HIDDEN);
#if RNN_LSTM || RNN_SLSTM
        hash = hash_floats(hash, model->c[layer], RNN_HIDDEN);
#endif
#if RNN_SLSTM
        hash = hash_floats(hash, model->n[layer], RNN_HIDDEN);
        hash = hash_floats(hash, model->m[layer], RNN_HIDDEN);
#endif
    }
    return hash;
}

int main(void) {
    static rnn_model model;
    rnn_init(&model);
    for (int t = 0; t < TEST_STEPS; t++) {
        rnn_step(&model, TEST_TOKENS[t]);
        if (hash_model(&model) != TEST_HASHES[t]) {
            printf("FAILED at step %d: logits or state differ from those of the model\n", t);
            return 1;
        }
    }
    for (int t = 0; t < TEST_DRAWS; t++) {
        int token = rnn_sample(&model, TEST_TEMPERATURE, TEST_SEED, (uint64_t)t);
        if (token != TEST_DRAWN[t]) {
            printf("FAILED at draw %d: token %d, expected %d\n", t, token, TEST_DRAWN[t]);
            return 1;
        }
        rnn_step(&model, token);
    }
    printf("ok: %d steps with all logits and states, %d draws\n", TEST_STEPS, TEST_DRAWS);
    return 0;
}

#elif defined(MAIN)
#include <stdio.h>
#include <stdlib.h>

#if !RNN_BYTES
/* What replaces characters of a prompt that the model does not know: some characters, 0, their replacement, 0, and so on. The
   last replacement, of no characters, is that of all others. */
@REPLACED@

static const uint32_t *replacement(uint32_t code_point) {
    const uint32_t *r = REPLACED;
    for (;;) {
        int is_last = !*r, is_found = 0;
        for (; *r; r++) is_found |= *r == code_point;
        r++;
        if (is_found || is_last) return r;
        while (*r++) {}
    }
}
#endif

/* The next character of UTF-8; a byte that is in none is 0xDC00 plus the byte, which no model knows. */
static int next_character(const unsigned char **text, uint32_t *code_point) {
    const unsigned char *t = *text;
    if (!*t) return 0;
    *code_point = *t++;
#if !RNN_BYTES
    if (*code_point >= 0x80) {
        int more = *code_point >= 0xF0 ? 3 : *code_point >= 0xE0 ? 2 : *code_point >= 0xC0 ? 1 : 0;
        uint32_t c = *code_point & (0x3F >> more);
        int i = 0;
        for (; i < more && (t[i] & 0xC0) == 0x80; i++) c = c << 6 | (t[i] & 0x3F);
        if (more && i == more) *code_point = c, t += more;
        else *code_point += 0xDC00;
    }
#endif
    *text = t;
    return 1;
}

int main(int argc, char **argv) {
    static rnn_model model;
    char text[5];
    if (argc < 2) {
        fprintf(stderr, "usage: %s LENGTH [TEMPERATURE [SEED [PROMPT]]]\n", argv[0]);
        return 2;
    }
    unsigned long long length = strtoull(argv[1], 0, 10), seed = argc > 3 ? strtoull(argv[3], 0, 10) : 1;
    float temperature = argc > 2 ? strtof(argv[2], 0) : 1.0f;
    const unsigned char *prompt = (const unsigned char *)(argc > 4 ? argv[4] : "");
    uint32_t code_point;
    int read = 0, unknown = 0;
    rnn_init(&model);
    if (RNN_END >= 0) rnn_step(&model, RNN_END), read++;
    fputs((const char *)prompt, stdout);
    while (next_character(&prompt, &code_point)) {
        int token = rnn_token(code_point);
        if (token >= 0) rnn_step(&model, token), read++;
#if !RNN_BYTES
        else {
            unknown++;
            for (const uint32_t *r = replacement(code_point); *r; r++) rnn_step(&model, rnn_token(*r)), read++;
        }
#endif
    }
    if (!read) rnn_step(&model, RNN_BEGIN);
    if (unknown) fprintf(stderr, "%d characters of the prompt are unknown to the model: replaced by similar ones, or removed\n", unknown);
    for (unsigned long long position = 0; position < length; position++) {
        int token = rnn_sample(&model, temperature, seed, position);
        if (token == RNN_END) break;
        fwrite(text, 1, (size_t)rnn_text(token, text), stdout);
        rnn_step(&model, token);
    }
    putchar('\n');
    return 0;
}
#endif
