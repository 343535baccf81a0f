/* One matrix multiplication for passes over few tokens, with what stands before and after it in a layer.
 *
 * A pass over a few tokens reads every weight once and does little with it, so its time is the memory's. Libraries
 * reach that for one token. For eight, their arithmetic adds to the reading instead of hiding behind it; here the
 * lines of memory that come next are asked for while the ones at hand are multiplied. And the weights lie in the
 * smallest form that is exact (`native_weights.h`); of four bits they are read so fast that arithmetic is the limit.
 *
 * A tile multiplies up to TILE rows with one panel of weights and keeps all sums in registers. Compiled by `native.py`.
 */

#include "native_linear.h"
#include "native_weights.h"

#include <stdlib.h>

#if defined(__AVX512F__)
enum { TILE = 14, COMPACT_TILE = 12 }; /* 28 and 24 of 32 registers hold sums */
#else
enum { TILE = 6, COMPACT_TILE = 6 }; /* 12 of 16, or 24 of 32 */
#endif
enum { MOST = 14, MANY_ROWS = 100 }; /* rows of any tile; so many rows share the spreading of a panel */
enum { LINE = 16, AHEAD = 20 };      /* a line of memory in words; words of an output to look ahead */

enum before { AS_IS = 0, UNIT = 1, GATED = 2 };

long draftproof_panel(void) { return PANEL; }

/* Bytes of a packed matrix; 0 if the form cannot hold such a width. */
long draftproof_packed_bytes(long out_width, long width, int form)
{
    return (out_width + PANEL - 1) / PANEL * PANEL * words(width, form) * (long)sizeof(uint32_t);
}

/* Whether the form gives back every number of weight [out_width, width]; if not, packed holds nothing of use. */
int draftproof_pack(const float *weight, long out_width, long width, int form, uint32_t *packed, int threads)
{
    long panels = (out_width + PANEL - 1) / PANEL, size = PANEL * words(width, form);
    int exact = 1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long p = 0; p < panels; p++) {
        int so_far;
#pragma omp atomic read
        so_far = exact;
        if (!so_far) continue;
        if ((p + 1) * PANEL > out_width) memset(packed + p * size, 0, size * sizeof *packed);
        for (long j = 0; j < PANEL && p * PANEL + j < out_width; j++)
            if (!pack_output(weight + (p * PANEL + j) * width, width, form, packed + p * size + j)) {
#pragma omp atomic write
                exact = 0;
                break;
            }
    }
    return exact;
}

/* x / sqrt(|x|^2 + floor), times gain */
static void unit(const float *x, long width, float floor, const float *gain, float *out)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long c = 0; c < width; c++) sum += x[c] * x[c];
    float factor = 1.0f / sqrtf(sum + floor);
#pragma omp simd
    for (long c = 0; c < width; c++) out[c] = x[c] * factor * gain[c];
}

/* silu(gate) * up */
static void gated(const float *gate, const float *up, long width, float *out)
{
#pragma omp simd
    for (long c = 0; c < width; c++) out[c] = gate[c] / (1.0f + exponential(-gate[c])) * up[c];
}

/* Sums [rows, PANEL] into the result; apart from the tiles, so that these are short. */
static __attribute__((noinline)) void finish(
    int rows, const vec *sums, const float *bias, int add, float *out, long out_width, long used)
{
    for (int i = 0; i < rows; i++) {
        float ends[PANEL];
        float *to = used == PANEL ? out + i * out_width : ends;
        if (add && used < PANEL) memcpy(ends, out + i * out_width, used * sizeof(float));
        for (int j = 0; j < VECTORS; j++) {
            vec sum = sums[i * VECTORS + j];
            if (bias) sum += *(const vec *)(bias + j * LANES);
            if (add) sum += *(const vec *)(to + j * LANES);
            *(vec *)(to + j * LANES) = sum;
        }
        if (used < PANEL) memcpy(out + i * out_width, ends, used * sizeof(float));
    }
}

static inline __attribute__((always_inline)) void tile(
    const int form, const int rows, const float *x, long width, const uint32_t *panel, vec *result)
{
    vec sums[MOST * VECTORS];
#pragma GCC unroll 64
    for (int s = 0; s < rows * VECTORS; s++) sums[s] = (vec){0};
    const long a_word = steps_a_word(form), together = form >= BYTES ? GROUP : a_word;
    for (long first = 0; first < width; first += together) {
        vec heads[2 * VECTORS] = {0};
#pragma GCC unroll 8
        for (int h = 0; h < head_words(form) * VECTORS; h++) heads[h] = *(const vec *)(panel + h * LANES);
        panel += head_words(form) * PANEL;
        for (long k = first; k < first + together; panel += PANEL) {
            ints word[VECTORS];
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++) word[j] = *(const ints *)(panel + j * LANES);
            for (int j = 0; j < PANEL; j += LINE) __builtin_prefetch(panel + AHEAD * PANEL + j, 0, 2);
#pragma GCC unroll 1
            for (long end = k + a_word; k < end; k++) {
                vec weights[VECTORS];
#pragma GCC unroll 4
                for (int j = 0; j < VECTORS; j++) weights[j] = spread(form, &word[j], heads[j], heads[VECTORS + j]);
#pragma GCC unroll 64
                for (int s = 0; s < rows * VECTORS; s++)
                    sums[s] += x[s / VECTORS * width + k] * weights[s % VECTORS];
            }
        }
    }
#pragma GCC unroll 64
    for (int s = 0; s < rows * VECTORS; s++) result[s] = sums[s];
}

/* A panel's numbers [width, PANEL]. */
static inline __attribute__((always_inline)) void spread_panel(
    const int form, long width, const uint32_t *panel, float *to)
{
    for (long first = 0; first < width; first += steps_together(form)) {
        vec heads[2][VECTORS] = {0};
        for (long h = 0; h < head_words(form); h++, panel += PANEL)
            for (int j = 0; j < VECTORS; j++) heads[h][j] = *(const vec *)(panel + j * LANES);
        for (long k = 0; k < steps_together(form); k += steps_a_word(form), panel += PANEL)
            for (int j = 0; j < VECTORS; j++) {
                ints word = *(const ints *)(panel + j * LANES);
                for (long i = 0; i < steps_a_word(form); i++)
                    *(vec *)(to + (first + k + i) * PANEL + j * LANES) = spread(form, &word, heads[0][j], heads[1][j]);
            }
    }
}

/* All rows by one panel of each form; a tile of its own for every count of rows, so that loops over them unroll. */
#define CASE(form, n)                                                                                             \
    case n:                                                                                                       \
        tile(form, n, x + first * width, width, panel, sums);                                                     \
        break;
#define FEW(form)                                                                                                 \
    CASE(form, 1) CASE(form, 2) CASE(form, 3) CASE(form, 4) CASE(form, 5) CASE(form, 6) CASE(form, 7) CASE(form, 8)
#define MORE(form) CASE(form, 9) CASE(form, 10) CASE(form, 11) CASE(form, 12)
#define TIMES(name, form, most, cases)                                                                            \
    static void times_##name(                                                                                     \
        long rows, const float *x, long width, const uint32_t *panel, const float *bias, int add, float *out,     \
        long out_width, long used)                                                                                \
    {                                                                                                             \
        long tiles = (rows + most - 1) / most;                                                                    \
        for (long t = 0; t < tiles; t++) {                                                                        \
            long first = t * rows / tiles, count = (t + 1) * rows / tiles - first;                                \
            vec sums[MOST * VECTORS];                                                                             \
            switch (count) { cases default: __builtin_unreachable(); }                                            \
            finish(count, sums, bias, add, out + first * out_width, out_width, used);                             \
        }                                                                                                         \
    }                                                                                                             \
    static void spread_##name(long width, const uint32_t *panel, float *to)                                       \
    {                                                                                                             \
        spread_panel(form, width, panel, to);                                                                     \
    }
TIMES(floats, FLOATS, TILE, FEW(FLOATS) MORE(FLOATS) CASE(FLOATS, 13) CASE(FLOATS, 14))
TIMES(halves, HALVES, COMPACT_TILE, FEW(HALVES) MORE(HALVES))
TIMES(bytes, BYTES, COMPACT_TILE, FEW(BYTES) MORE(BYTES))
TIMES(nibbles, NIBBLES, COMPACT_TILE, FEW(NIBBLES) MORE(NIBBLES))

static void (*const TIMES_OF[])(
    long, const float *, long, const uint32_t *, const float *, int, float *, long, long) = {
    times_floats, times_halves, times_bytes, times_nibbles};
static void (*const SPREAD_OF[])(long, const uint32_t *, float *) = {
    spread_floats, spread_halves, spread_bytes, spread_nibbles};

void draftproof_multiply(const struct matrix *matrix, const float *x, long rows, int add, float *out, float *room)
{
    long width = matrix->width, out_width = matrix->out_width;
    int form = matrix->form;
    long panels = (out_width + PANEL - 1) / PANEL, size = PANEL * words(width, form);
    if (matrix->before == UNIT) {
#pragma omp for schedule(static)
        for (long r = 0; r < rows; r++) unit(x + r * width, width, matrix->floor, matrix->gain, room + r * width);
    } else if (matrix->before == GATED) {
        long block = 256, blocks = (width + block - 1) / block;
#pragma omp for schedule(static) collapse(2)
        for (long r = 0; r < rows; r++)
            for (long b = 0; b < blocks; b++) {
                const float *gate = x + 2 * r * width + b * block;
                gated(gate, gate + width, b + 1 < blocks ? block : width - b * block, room + r * width + b * block);
            }
    }
    const float *from = matrix->before == AS_IS ? x : room;
    float *whole = form != FLOATS && rows >= MANY_ROWS ? malloc(PANEL * width * sizeof *whole) : NULL;
#pragma omp for schedule(static)
    for (long p = 0; p < panels; p++) {
        const uint32_t *panel = matrix->packed + p * size;
        const float *shift = matrix->bias ? matrix->bias + p * PANEL : 0;
        long left = out_width - p * PANEL, used = left < PANEL ? left : PANEL;
        float *to = out + p * PANEL;
        if (whole) SPREAD_OF[form](width, panel, whole);
        const uint32_t *given = whole ? (const uint32_t *)whole : panel;
        TIMES_OF[whole ? FLOATS : form](rows, from, width, given, shift, add, to, out_width, used);
    }
    free(whole);
}

/* out [rows, out_width] = before(x) weight^T + bias, or added to what out holds.
 *
 * x: [rows, width], for GATED [rows, 2 width]: gates, then what they let through. room: [rows, width], unless before is
 * AS_IS. */
void draftproof_linear(
    const struct matrix *matrix, const float *x, long rows, int add, float *out, float *room, int threads)
{
#pragma omp parallel num_threads(threads)
    draftproof_multiply(matrix, x, rows, add, out, room);
}
