/* The layers of a Llama in one call, for passes over few tokens.
 *
 * Of such a pass much is waiting: for the next operator to be called, for other threads to wake up, and, where a program
 * serves several texts, for the interpreter's lock between any two operators. Here is one call, one team of threads,
 * and no lock.
 *
 * Attention reads a row's keys and values once for each of its query heads, which is what few tokens take; for many
 * there are better ways (`lean_attention.py`). Compiled together with `native.c`.
 */

#include "native_layers.h"
#include "native_vectors.h"

#include <math.h>
#include <omp.h>
#include <string.h>

static long slots(const struct row *row) { return row->start + row->count; }
static long depth(const struct row *row, long slot) { return row->depths ? row->depths[slot] : slot; }
static int sees(const struct row *row, long token, long slot)
{
    return row->seen ? row->seen[token * slots(row) + slot] : slot <= row->start + token;
}

/* Pairs of numbers turned as complex numbers are, and scaled. */
static void turn(float *pairs, const float *turns, long size, float scale)
{
    for (long k = 0; k < size; k += 2) {
        float real = pairs[k] * turns[k] - pairs[k + 1] * turns[k + 1];
        float imaginary = pairs[k] * turns[k + 1] + pairs[k + 1] * turns[k];
        pairs[k] = real * scale;
        pairs[k + 1] = imaginary * scale;
    }
}

/* Norms and rotary embedding of one token's heads [heads + 2 kv heads, size]; keys and values into the cache. */
static void place(const struct shape *shape, const struct layer *layer, const struct row *row, long index, long token,
                  const float *turns, float *heads)
{
    long size = shape->size, turned = shape->heads + shape->kv_heads;
    const float *mine = turns + (row->length + depth(row, row->start + token)) * size;
    for (long h = 0; h < turned; h++) {
        float *head = heads + h * size;
        if (layer->head_norms) {
            float sum = 0.0f;
            for (long k = 0; k < size; k++) sum += head[k] * head[k];
            float factor = 1.0f / sqrtf(sum + shape->head_floor);
            for (long k = 0; k < size; k++) head[k] *= factor * layer->head_norms[h * size + k];
        }
        turn(head, mine, size, h < shape->heads ? 1.0f / sqrtf((float)size) : 1.0f);
    }
    float *column = row->cache + (index * 2 * shape->kv_heads * row->room + row->length + row->start + token) * size;
    for (long h = 0; h < 2 * shape->kv_heads; h++)
        memcpy(column + h * row->room * size, heads + (shape->heads + h) * size, size * sizeof *heads);
}

static inline float dot(const float *a, const float *b, long size)
{
    vec sums = {0};
    long k = 0;
    for (; k + LANES <= size; k += LANES) sums += *(const vec *)(a + k) * *(const vec *)(b + k);
    float sum = 0.0f, lanes[LANES];
    memcpy(lanes, &sums, sizeof lanes);
#pragma omp simd reduction(+ : sum)
    for (int l = 0; l < LANES; l++) sum += lanes[l];
    for (; k < size; k++) sum += a[k] * b[k];
    return sum;
}

/* Columns [low, end) of `values`, weighted, into mixed [size]. Four vectors of sums at a time stay in registers. A weight
 * of 0 reads nothing: hidden slots may hold anything. */
static void mix(const float *weights, const float *values, long low, long end, long size, float *mixed)
{
    long k = 0;
    for (; k + 4 * LANES <= size; k += 4 * LANES) {
        vec sums[4] = {{0}};
        for (long c = low; c < end; c++) {
            if (weights[c] == 0.0f) continue;
            const float *value = values + c * size + k;
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) sums[j] += weights[c] * *(const vec *)(value + j * LANES);
        }
        memcpy(mixed + k, sums, sizeof sums);
    }
    for (; k + LANES <= size; k += LANES) {
        vec sums = {0};
        for (long c = low; c < end; c++)
            if (weights[c] != 0.0f) sums += weights[c] * *(const vec *)(values + c * size + k);
        memcpy(mixed + k, &sums, sizeof sums);
    }
    for (; k < size; k++) {
        mixed[k] = 0.0f;
        for (long c = low; c < end; c++)
            if (weights[c] != 0.0f) mixed[k] += weights[c] * values[c * size + k];
    }
}

/* One token's query [size] over the columns that it sees. scores: [columns of the row]. */
static void attend(const struct shape *shape, const struct row *row, long window, long token, const float *query,
                   const float *keys, const float *values, float *scores, float *mixed)
{
    long size = shape->size, length = row->length, end = length + slots(row);
    long own = length + depth(row, row->start + token); /* position */
    long low = window && own - window + 1 > 0 ? own - window + 1 : 0;
    if (low > length) low = length;
    float top = -INFINITY;
    for (long c = low; c < length; c++) scores[c] = dot(query, keys + c * size, size);
    for (long slot = 0; slot < slots(row); slot++) {
        int hidden = !sees(row, token, slot) || (window && own - depth(row, slot) - length >= window);
        scores[length + slot] = hidden ? -INFINITY : dot(query, keys + (length + slot) * size, size);
    }
    for (long c = low; c < end; c++) top = scores[c] > top ? scores[c] : top; /* a NaN comes back below */
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long c = low; c < end; c++) {
        scores[c] = exponential(scores[c] - top);
        sum += scores[c];
    }
    float share = 1.0f / sum;
    for (long c = low; c < end; c++) scores[c] *= share;
    mix(scores, values, low, end, size, mixed);
}

void draftproof_layers(
    const struct shape *shape, const struct layer *layers, long first, long last, const struct row *rows, long row_count,
    long tokens, float *states, const float *turns, float *const *kept, float *heads, float *mixed, float *wide,
    float *before, float *scores, long columns, int threads)
{
    long size = shape->size, group = shape->heads / shape->kv_heads, all = (shape->heads + 2 * shape->kv_heads) * size;
#pragma omp parallel num_threads(threads)
    {
        float *my_scores = scores + omp_get_thread_num() * columns;
        for (long index = first; index < last; index++) {
            const struct layer *layer = layers + index;
            if (kept[index]) {
#pragma omp single
                memcpy(kept[index], states, tokens * shape->hidden * sizeof *states);
            }
            draftproof_multiply(&layer->queries_keys_values, states, tokens, 0, heads, before);
#pragma omp for schedule(static)
            for (long r = 0; r < row_count; r++)
                for (long t = 0; t < rows[r].count; t++)
                    place(shape, layer, rows + r, index, t, turns, heads + (rows[r].first + t) * all);
#pragma omp for schedule(static) collapse(2)
            for (long r = 0; r < row_count; r++)
                for (long h = 0; h < shape->heads; h++) {
                    const struct row *row = rows + r;
                    long stride = row->room * size;
                    const float *keys = row->cache + (index * 2 * shape->kv_heads + h / group) * stride;
                    const float *values = keys + shape->kv_heads * stride;
                    for (long t = 0; t < row->count; t++)
                        attend(shape, row, layer->window, t, heads + (row->first + t) * all + h * size, keys, values,
                               my_scores, mixed + ((row->first + t) * shape->heads + h) * size);
                }
            draftproof_multiply(&layer->out, mixed, tokens, 1, states, before);
            draftproof_multiply(&layer->gate_up, states, tokens, 0, wide, before);
            draftproof_multiply(&layer->down, wide, tokens, 1, states, before);
        }
        if (kept[last]) {
#pragma omp single
            memcpy(kept[last], states, tokens * shape->hidden * sizeof *states);
        }
    }
}
