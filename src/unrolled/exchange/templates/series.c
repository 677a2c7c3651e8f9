/* @TITLE@

   Written by unrolled @VERSION@. One C99 file, no memory allocation; of math.h: expf, tanhf, sqrtf@MATH@.

     cc -O3 -DTEST @FILE@ -lm && ./a.out    replays the test vectors below: every output of every step
     cc -O3 -DMAIN @FILE@ -lm && ./a.out < numbers.csv    a line of numbers for each step@SECONDS_FIRST@; prints the outputs

     static rnn_model model;    @RAM@ bytes of RAM; @FLASH@ bytes of tables
     rnn_init(&model);    before each series
     rnn_step(&model, numbers, @SECONDS_ARGUMENT@outputs);    one step of the series

   numbers: RNN_NUMBERS values in the unit of the data, as in the columns @COLUMNS@; NAN is a gap, and so is an infinite number.
@SECONDS@   outputs: RNN_OUTPUTS values: @OUTPUTS@. */

#include <math.h>
#include <string.h>

@DEFINES@

typedef struct {
    float h[RNN_LAYERS][RNN_HIDDEN];
#if RNN_LSTM
    float c[RNN_LAYERS][RNN_HIDDEN];
#endif
    double last[RNN_NUMBERS]; /* the last known numbers, scaled */
    int is_known[RNN_NUMBERS];
#if RNN_LAG
    double levels[RNN_LAG][RNN_NUMBERS]; /* the last numbers, scaled, gaps filled: a ring */
    int is_level[RNN_LAG][RNN_NUMBERS];
    long num_steps;
#endif
    /* Work space of a step; nothing in it is kept. */
    float inputs[RNN_INPUTS], x[RNN_WIDTH], normed[RNN_WIDTH], gates[RNN_GATES * RNN_HIDDEN], recurrent[RNN_GATES * RNN_HIDDEN];
    float values[RNN_VALUES];
} rnn_model;

void rnn_init(rnn_model *model);
void rnn_step(rnn_model *model, const double *numbers, @SECONDS_PARAMETER@double *outputs);

typedef struct { double center, spread, low, high; } rnn_scaling;
typedef struct { int size; const float *input, *recurrent, *bias, *bias_hh, *norm_weight, *norm_bias; } rnn_layer;

@TABLES@

/* y += W x; the weights of a column of W stand together. */
static void add_product(const float *weight, const float *x, int columns, int rows, float *y) {
    for (int column = 0; column < columns; column++)
        for (int row = 0; row < rows; row++) y[row] += weight[(long)column * rows + row] * x[column];
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

static inline double scaled(const rnn_scaling *scaling, double value) {
    value = value < scaling->low ? scaling->low : value > scaling->high ? scaling->high : value;
    return (value - scaling->center) / scaling->spread;
}

#if RNN_RESIDUAL
static void layer_norm(const float *x, const float *weight, const float *bias, float *y) {
    double mean = 0, variance = 0;
    for (int i = 0; i < RNN_HIDDEN; i++) mean += x[i];
    mean /= RNN_HIDDEN;
    for (int i = 0; i < RNN_HIDDEN; i++) variance += (x[i] - mean) * (x[i] - mean);
    float factor = 1.0f / sqrtf((float)(variance / RNN_HIDDEN) + 1e-5f);
    for (int i = 0; i < RNN_HIDDEN; i++) y[i] = (float)(x[i] - mean) * factor * weight[i] + bias[i];
}
#endif

static void read_numbers(rnn_model *model, const double *numbers) {
    float *gaps = model->inputs + RNN_NUMBERS, *changes = model->inputs + RNN_NUMBERS * (1 + RNN_GAPS);
    (void)gaps, (void)changes;
    for (int i = 0; i < RNN_NUMBERS; i++) {
        int is_gap = !(numbers[i] - numbers[i] == 0); /* NAN, or infinite */
        if (!is_gap) model->last[i] = scaled(&SCALING[i], numbers[i]), model->is_known[i] = 1;
        model->inputs[i] = (float)model->last[i];
#if RNN_GAPS
        gaps[i] = (float)is_gap;
#endif
#if RNN_LAG
        int place = (int)(model->num_steps % RNN_LAG); /* of the step RNN_LAG steps before this one */
        int has_change = !is_gap && model->num_steps >= RNN_LAG && model->is_level[place][i];
        changes[i] = has_change ? (float)scaled(&CHANGE[i], model->last[i] - model->levels[place][i]) : 0.0f;
        model->levels[place][i] = model->last[i];
        model->is_level[place][i] = model->is_known[i];
#endif
    }
#if RNN_LAG
    model->num_steps++;
#endif
}

#if RNN_CALENDAR
static void read_calendar(float *calendar, double seconds) {
    memset(calendar, 0, sizeof(float) * RNN_CALENDAR);
    if (!(seconds - seconds == 0)) return; /* a time that is not known */
    for (int i = 0; i < RNN_CYCLES; i++) {
        if (CYCLES[i] == 604800.0) { /* the days of the week, from Monday on; 1970 began on a Thursday */
            calendar[(int)fmod(fmod(floor(seconds / 86400.0) + 3.0, 7.0) + 7.0, 7.0)] = 1;
            calendar += 7;
        } else {
            double turns = seconds / CYCLES[i], angle = 6.283185307179586 * (turns - floor(turns));
            *calendar++ = (float)sin(angle);
            *calendar++ = (float)cos(angle);
        }
    }
}
#endif

static void read_layer(rnn_model *model, const rnn_layer *layer, int index) {
    float *gates = model->gates, *recurrent = model->recurrent, *h = model->h[index];
    memcpy(gates, layer->bias, sizeof model->gates);
    add_product(layer->input, model->normed, layer->size, RNN_GATES * RNN_HIDDEN, gates);
    if (layer->bias_hh) memcpy(recurrent, layer->bias_hh, sizeof model->recurrent);
    else memset(recurrent, 0, sizeof model->recurrent);
    add_product(layer->recurrent, h, RNN_HIDDEN, RNN_GATES * RNN_HIDDEN, recurrent);
    for (int i = 0; i < RNN_HIDDEN; i++) {
#if RNN_LSTM
        float input = sigmoid(gates[i] + recurrent[i]), forget = sigmoid(gates[RNN_HIDDEN + i] + recurrent[RNN_HIDDEN + i]);
        float candidate = tanhf(gates[2 * RNN_HIDDEN + i] + recurrent[2 * RNN_HIDDEN + i]);
        model->c[index][i] = forget * model->c[index][i] + input * candidate;
        h[i] = sigmoid(gates[3 * RNN_HIDDEN + i] + recurrent[3 * RNN_HIDDEN + i]) * tanhf(model->c[index][i]);
#elif RNN_GRU_RESET_BEFORE
        float reset = sigmoid(gates[i] + recurrent[i]);
        model->normed[i] = reset * h[i]; /* the input of the step is no longer needed */
    }
    for (int i = 0; i < RNN_HIDDEN; i++) recurrent[2 * RNN_HIDDEN + i] = layer->bias_hh ? layer->bias_hh[2 * RNN_HIDDEN + i] : 0.0f;
    for (int column = 0; column < RNN_HIDDEN; column++)
        for (int i = 0; i < RNN_HIDDEN; i++)
            recurrent[2 * RNN_HIDDEN + i] += layer->recurrent[(3L * column + 2) * RNN_HIDDEN + i] * model->normed[column];
    for (int i = 0; i < RNN_HIDDEN; i++) {
        float update = sigmoid(gates[RNN_HIDDEN + i] + recurrent[RNN_HIDDEN + i]);
        h[i] = (1.0f - update) * tanhf(gates[2 * RNN_HIDDEN + i] + recurrent[2 * RNN_HIDDEN + i]) + update * h[i];
#elif RNN_GRU
        float reset = sigmoid(gates[i] + recurrent[i]), update = sigmoid(gates[RNN_HIDDEN + i] + recurrent[RNN_HIDDEN + i]);
        float candidate = tanhf(gates[2 * RNN_HIDDEN + i] + reset * recurrent[2 * RNN_HIDDEN + i]);
        h[i] = (1.0f - update) * candidate + update * h[i];
#else
        h[i] = tanhf(gates[i] + recurrent[i]);
#endif
    }
}

/* The inputs of the step through all layers to the values of the output layer. */
static void read_step(rnn_model *model) {
#if RNN_RESIDUAL
    memcpy(model->x, INPUT_BIAS, sizeof(float) * RNN_HIDDEN);
    add_product(INPUT_WEIGHT, model->inputs, RNN_INPUTS, RNN_HIDDEN, model->x);
#else
    memcpy(model->x, model->inputs, sizeof model->inputs);
#endif
    for (int index = 0; index < RNN_LAYERS; index++) {
#if RNN_RESIDUAL
        layer_norm(model->x, LAYERS[index].norm_weight, LAYERS[index].norm_bias, model->normed);
        read_layer(model, &LAYERS[index], index);
        for (int i = 0; i < RNN_HIDDEN; i++) model->x[i] += model->h[index][i];
#else
        memcpy(model->normed, model->x, sizeof(float) * (size_t)LAYERS[index].size);
        read_layer(model, &LAYERS[index], index);
        memcpy(model->x, model->h[index], sizeof(float) * RNN_HIDDEN);
#endif
    }
#if RNN_RESIDUAL
    layer_norm(model->x, NORM_WEIGHT, NORM_BIAS, model->normed);
#else
    memcpy(model->normed, model->x, sizeof(float) * RNN_HIDDEN);
#endif
    memcpy(model->values, HEAD_BIAS, sizeof model->values);
    add_product(HEAD_WEIGHT, model->normed, RNN_HIDDEN, RNN_VALUES, model->values);
    add_product(SKIP_WEIGHT, model->inputs, RNN_INPUTS, RNN_VALUES, model->values);
}

#if RNN_LABELS
static void write_outputs(const rnn_model *model, double *outputs) {
    double largest = model->values[0], total = 0;
    for (int i = 1; i < RNN_LABELS; i++) largest = model->values[i] > largest ? model->values[i] : largest;
    for (int i = 0; i < RNN_LABELS; i++) total += outputs[i] = exp(model->values[i] - largest);
    for (int i = 0; i < RNN_LABELS; i++) outputs[i] /= total;
}
#else
static void write_outputs(const rnn_model *model, double *outputs) {
    for (int column = 0; column < RNN_PREDICTED; column++) {
        double factor = PREDICTED[column].spread, shift = PREDICTED[column].center;
#if RNN_LAG
        long oldest = model->num_steps < RNN_LAG ? model->num_steps - 1 : model->num_steps % RNN_LAG;
        shift += factor * (CHANGE[column].center + model->levels[oldest][column]);
        factor *= CHANGE[column].spread;
#endif
        for (int part = 0; part < RNN_PARTS; part++) {
            double value = model->values[part * RNN_PREDICTED + column];
#if RNN_GAUSSIAN
            value = part ? factor * exp(RNN_LOG_LIMIT * tanh(value / RNN_LOG_LIMIT)) : shift + factor * value;
#else
            value = shift + factor * value;
#endif
            int place = part; /* quantiles are put in order */
            for (; RNN_SORTED && place && outputs[(place - 1) * RNN_PREDICTED + column] > value; place--)
                outputs[place * RNN_PREDICTED + column] = outputs[(place - 1) * RNN_PREDICTED + column];
            outputs[place * RNN_PREDICTED + column] = value;
        }
    }
}
#endif

void rnn_init(rnn_model *model) {
    memset(model, 0, sizeof *model);
#if RNN_START
    memcpy(model->h, START_H, sizeof model->h);
#if RNN_LSTM
    memcpy(model->c, START_C, sizeof model->c);
#endif
#endif
}

void rnn_step(rnn_model *model, const double *numbers, @SECONDS_PARAMETER@double *outputs) {
    read_numbers(model, numbers);
#if RNN_CALENDAR
    read_calendar(model->inputs + RNN_INPUTS - RNN_CALENDAR, seconds);
#endif
    read_step(model);
    write_outputs(model, outputs);
}

#if defined(TEST)
#include <stdio.h>

@VECTORS@

int main(void) {
    static rnn_model model;
    double outputs[RNN_OUTPUTS];
    for (int run = 0; run < 2; run++) {
        rnn_init(&model);
        for (int step = 0; step < TEST_STEPS; step++) {
            rnn_step(&model, TEST_NUMBERS[step], @TEST_SECONDS@outputs);
            for (int i = 0; i < RNN_OUTPUTS; i++) {
                double error = fabs(outputs[i] - TEST_OUTPUTS[step][i]);
                if (!(error <= TEST_TOLERANCE[i])) {
                    fprintf(stderr, "step %d, output %d: %.9g, expected %.9g\n", step, i, outputs[i], TEST_OUTPUTS[step][i]);
                    return 1;
                }
            }
        }
    }
    printf("ok: %d output%s of each of %d steps, in two runs\n", RNN_OUTPUTS, RNN_OUTPUTS == 1 ? "" : "s", TEST_STEPS);
    return 0;
}
#elif defined(MAIN)
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    static rnn_model model;
    static char line[65536];
    double values[RNN_NUMBERS + 1], outputs[RNN_OUTPUTS];
    rnn_init(&model);
    while (fgets(line, sizeof line, stdin)) {
        char *next = line;
        for (int i = 0; i < RNN_NUMBERS + (RNN_CALENDAR > 0); i++) {
            char *end;
            values[i] = strtod(next, &end);
            if (end == next) values[i] = NAN;
            next = end + strcspn(end, ",");
            if (*next == ',') next++;
        }
        rnn_step(&model, values + (RNN_CALENDAR > 0), @MAIN_SECONDS@outputs);
        for (int i = 0; i < RNN_OUTPUTS; i++) printf(i ? ",%.9g" : "%.9g", outputs[i]);
        printf("\n");
    }
    return 0;
}
#endif
