/* What the parts of the native code know of each other. */

#include <stdint.h>

/* before(x) weight^T + bias, as `native.py` fills it in. */
struct matrix {
    const uint32_t *packed;
    const float *gain; /* [width]: of UNIT */
    const float *bias; /* as many as the panels have outputs, or NULL */
    long width, out_width;
    int before, form;
    float floor; /* of UNIT */
};

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
    __builtin_memcpy(&power, &bits, sizeof power);
    return exponent < -87.0f ? 0.0f : exponent == exponent ? series * power : exponent;
}

/* Rows [rows, width] to [rows, out_width], or added to what `out` holds. To be called by all threads of a team; the
 * result is there for all of them when it returns. room: [rows, width]. */
void draftproof_multiply(const struct matrix *matrix, const float *x, long rows, int add, float *out, float *room);

/* The same by a team of so many threads. */
void draftproof_linear(
    const struct matrix *matrix, const float *x, long rows, int add, float *out, float *room, int threads);
