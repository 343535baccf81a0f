/* One matrix multiplication for passes over few tokens, with what stands before and after it in a layer.
 *
 * A pass over a few tokens reads every weight once and does little with it, so its time is the memory's. Libraries
 * reach that for one token. For eight, their arithmetic adds to the reading instead of hiding behind it; here the
 * lines of memory that come next are asked for while the ones at hand are multiplied.
 *
 * Weights [out_width, width] are packed into panels of PANEL outputs, each [width, PANEL], the last padded with zeros.
 * A tile multiplies up to TILE rows with one panel and keeps all sums in registers. Compiled by `native.py`.
 */

#include <math.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, VECTORS = 2, TILE = 14 }; /* 28 of 32 registers hold sums */
#elif defined(__AVX__)
enum { LANES = 8, VECTORS = 2, TILE = 6 }; /* 12 of 16 */
#elif defined(__aarch64__)
enum { LANES = 4, VECTORS = 4, TILE = 6 }; /* 24 of 32 */
#else
enum { LANES = 4, VECTORS = 2, TILE = 6 }; /* 12 of 16 */
#endif
enum { PANEL = LANES * VECTORS, LINE = 16, AHEAD = 20 }; /* a line of memory in floats; steps to look ahead */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

enum before { AS_IS = 0, UNIT = 1, GATED = 2 };

long draftproof_panel(void) { return PANEL; }

void draftproof_pack(const float *weight, long out_width, long width, float *packed, int threads)
{
    long panels = (out_width + PANEL - 1) / PANEL;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long p = 0; p < panels; p++)
        for (long k = 0; k < width; k++)
            for (long j = 0; j < PANEL; j++) {
                long output = p * PANEL + j;
                packed[(p * width + k) * PANEL + j] = output < out_width ? weight[output * width + k] : 0.0f;
            }
}

/* e^x to two units in the last place: 0 below e^-87, no more than e^88, NaN for NaN. Reduced as Cephes' expf does:
 * x = n ln 2 + r, |r| <= ln 2 / 2, ln 2 in two parts; the polynomial is e^r's Taylor series. */
static inline float exponential(float exponent)
{
    float x = exponent > -87.0f ? exponent : -87.0f; /* NaN too, which could not be made an integer */
    x = x < 88.0f ? x : 88.0f;
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounds to an integer */
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float series = 1.0f / 5040.0f;
    series = series * r + 1.0f / 720.0f;
    series = series * r + 1.0f / 120.0f;
    series = series * r + 1.0f / 24.0f;
    series = series * r + 1.0f / 6.0f;
    series = series * r + 0.5f;
    series = series * r + 1.0f;
    series = series * r + 1.0f;
    unsigned bits = (unsigned)((int)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return exponent < -87.0f ? 0.0f : exponent == exponent ? series * power : exponent;
}

/* x / sqrt(|x|^2 + floor) */
static void unit(const float *x, long width, float floor, float *out)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long c = 0; c < width; c++) sum += x[c] * x[c];
    float factor = 1.0f / sqrtf(sum + floor);
#pragma omp simd
    for (long c = 0; c < width; c++) out[c] = x[c] * factor;
}

/* silu(gate) * up */
static void gated(const float *gate, const float *up, long width, float *out)
{
#pragma omp simd
    for (long c = 0; c < width; c++) out[c] = gate[c] / (1.0f + exponential(-gate[c])) * up[c];
}

static inline __attribute__((always_inline)) void tile(
    const int rows, const float *x, long width, const float *panel, const float *bias, int add, float *out,
    long out_width, long used)
{
    vec sums[TILE][VECTORS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < VECTORS; j++) sums[i][j] = (vec){0};
    for (long k = 0; k < width; k++, panel += PANEL) {
        vec weights[VECTORS];
        for (int j = 0; j < VECTORS; j++) weights[j] = *(const vec *)(panel + j * LANES);
        for (int j = 0; j < PANEL; j += LINE) __builtin_prefetch(panel + AHEAD * PANEL + j, 0, 2);
        for (int i = 0; i < rows; i++) {
            float number = x[i * width + k];
            for (int j = 0; j < VECTORS; j++) sums[i][j] += number * weights[j];
        }
    }
    for (int i = 0; i < rows; i++) {
        float ends[PANEL];
        float *to = used == PANEL ? out + i * out_width : ends;
        if (add && used < PANEL) memcpy(ends, out + i * out_width, used * sizeof(float));
        for (int j = 0; j < VECTORS; j++) {
            vec sum = sums[i][j];
            if (bias) sum += *(const vec *)(bias + j * LANES);
            if (add) sum += *(const vec *)(to + j * LANES);
            *(vec *)(to + j * LANES) = sum;
        }
        if (used < PANEL) memcpy(out + i * out_width, ends, used * sizeof(float));
    }
}

/* out [rows, out_width] = before(x) weight^T + bias, or added to what out holds.
 *
 * x: [rows, width], for GATED [rows, 2 width]: gates, then what they let through. floor: of UNIT. bias: as many as the
 * panels have outputs, or NULL. room: [rows, width], unless before is AS_IS. */
void draftproof_linear(
    const float *x, long rows, long width, int before, float floor, const float *packed, const float *bias,
    long out_width, int add, float *out, float *room, int threads)
{
    long panels = (out_width + PANEL - 1) / PANEL, tiles = (rows + TILE - 1) / TILE;
#pragma omp parallel num_threads(threads)
    {
        if (before == UNIT) {
#pragma omp for schedule(static)
            for (long r = 0; r < rows; r++) unit(x + r * width, width, floor, room + r * width);
        } else if (before == GATED) {
            long block = 256, blocks = (width + block - 1) / block;
#pragma omp for schedule(static) collapse(2)
            for (long r = 0; r < rows; r++)
                for (long b = 0; b < blocks; b++) {
                    const float *gate = x + 2 * r * width + b * block;
                    gated(gate, gate + width, b + 1 < blocks ? block : width - b * block,
                          room + r * width + b * block);
                }
        }
        const float *from = before == AS_IS ? x : room;
#pragma omp for schedule(static)
        for (long p = 0; p < panels; p++) {
            const float *panel = packed + p * PANEL * width;
            long left = out_width - p * PANEL, used = left < PANEL ? left : PANEL;
            for (long t = 0; t < tiles; t++) {
                long first = t * rows / tiles, count = (t + 1) * rows / tiles - first;
                switch (count) { /* a tile of its own for every count, so that all loops over rows are unrolled */
#define CASE(n)                                                                                                   \
    case n:                                                                                                       \
        tile(n <= TILE ? n : 1, from + first * width, width, panel, bias ? bias + p * PANEL : 0, add,             \
             out + first * out_width + p * PANEL, out_width, used);                                               \
        break;
                    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
                    CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
                }
            }
        }
    }
}
