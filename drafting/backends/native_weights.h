/* Weights in the smallest form that gives back every number.
 *
 * A pass over a few tokens takes as long as its weights take to be read, and many weights hold less than their 32 bits:
 * those of a model that was trained in bfloat16 are zero in their lower half, and those that were quantised to four
 * or eight bits a number take few values between a group's least and largest. Packing finds that out from the numbers
 * alone, and tries every number: what `spread` gives for it equals it, or the matrix stays as it is. So nothing is
 * approximated, and a product rounds as it does with plain weights. (Only -0 may become 0: sums begin at 0, to which
 * both add the same.)
 *
 * A matrix [outputs, width] becomes panels of PANEL outputs, the last padded with zeros. A panel is a run of steps
 * over the width; a group of GROUP steps shares scales and leasts. By form, in words of 32 bits for every output:
 *
 *   FLOATS   a step: the number
 *   HALVES   two steps: the upper halves of two numbers, the first below
 *   BYTES    a group: a scale; then four steps a word: integers, the first lowest. number = integer * scale
 *   NIBBLES  a group: a scale, a least; then eight steps a word, the first lowest. number = integer * scale + least
 */

#include "native_vectors.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { PANEL = LANES * VECTORS, GROUP = 32, LEVELS = 15, BYTE_LEVELS = 127 };

enum form { FLOATS = 0, HALVES = 1, BYTES = 2, NIBBLES = 3 };

/* Steps in a word, words before the first step of a group, and steps that the form can only take together. */
static inline long steps_a_word(int form) { return form == FLOATS ? 1 : form == HALVES ? 2 : form == BYTES ? 4 : 8; }
static inline long head_words(int form) { return form == NIBBLES ? 2 : form == BYTES ? 1 : 0; }
static inline long steps_together(int form) { return form >= BYTES ? GROUP : steps_a_word(form); }

/* Words of one output; 0 if the form cannot hold such a width. */
static inline long words(long width, int form)
{
    if (width % steps_together(form)) return 0;
    return width / steps_a_word(form) + (form >= BYTES ? width / GROUP * head_words(form) : 0);
}

/* Rounded to so many bits. A scale of few bits times a small integer is exact, so that it does not matter whether what
 * follows is fused with it; and of a number known to be near a scale of few bits, the scale itself is found. */
static inline float in_bits(float number, int bits)
{
    uint32_t word, half = 1u << (23 - bits);
    memcpy(&word, &number, sizeof word);
    word = (word + half) & ~(2 * half - 1);
    memcpy(&number, &word, sizeof number);
    return number;
}

/* What scales have: half precision, and half precision times six bits (GGUF's Q4_K). */
static const int SCALE_BITS[] = {11, 17};
enum { KINDS_OF_SCALE = 2 };

static int all_levels(const float *from, float scale, float least, float low, float high, int32_t *integers)
{
    if (!isfinite(scale)) return 0;
    for (int k = 0; k < GROUP; k++) {
        float level = scale > 0.0f ? nearbyintf((from[k] - least) / scale) : 0.0f;
        if (!(level >= low && level <= high && level * scale + least == from[k])) return 0;
        integers[k] = (int32_t)level;
    }
    return 1;
}

/* Integers, scale and least of a group, or 0. The largest integer need not be in use. */
static int as_nibbles(const float *from, int32_t *integers, float *scale, float *least)
{
    float low = from[0], high = from[0];
    for (int k = 0; k < GROUP; k++) {
        if (!isfinite(from[k])) return 0;
        low = fminf(low, from[k]);
        high = fmaxf(high, from[k]);
    }
    *least = low;
    for (int levels = LEVELS; levels > 0; levels--)
        for (int kind = 0; kind < KINDS_OF_SCALE; kind++) {
            *scale = in_bits((high - low) / (float)levels, SCALE_BITS[kind]);
            if (all_levels(from, *scale, low, 0, LEVELS, integers)) return 1;
        }
    return 0;
}

/* The largest integer may be less than a byte's, as in weights that share a scale with others. */
static int as_bytes(const float *from, int32_t *integers, float *scale)
{
    float largest = 0.0f;
    for (int k = 0; k < GROUP; k++) {
        if (!isfinite(from[k])) return 0;
        largest = fmaxf(largest, fabsf(from[k]));
    }
    for (int levels = BYTE_LEVELS; levels > 0; levels--)
        for (int kind = 0; kind < KINDS_OF_SCALE; kind++) {
            *scale = in_bits(largest / (float)levels, SCALE_BITS[kind]);
            if (all_levels(from, *scale, 0.0f, -BYTE_LEVELS - 1, BYTE_LEVELS, integers)) return 1;
        }
    return 0;
}

/* One output's numbers [width] to every PANEL-th word; whether the form gives them back. */
static int pack_output(const float *from, long width, int form, uint32_t *to)
{
    long together = steps_together(form), a_word = steps_a_word(form), bits = 32 / a_word;
    for (long first = 0; first < width; first += together, from += together) {
        int32_t integers[GROUP] = {0};
        float scale = 0.0f, least = 0.0f;
        if (form == NIBBLES && !as_nibbles(from, integers, &scale, &least)) return 0;
        if (form == BYTES && !as_bytes(from, integers, &scale)) return 0;
        if (form < BYTES)
            for (long k = 0; k < together; k++) {
                uint32_t number;
                memcpy(&number, from + k, sizeof number);
                if (form == HALVES && number & 0xffffu) return 0;
                integers[k] = (int32_t)(form == HALVES ? number >> 16 : number);
            }
        float head[2] = {scale, least};
        for (long h = 0; h < head_words(form); h++, to += PANEL) memcpy(to, head + h, sizeof *to);
        for (long k = 0; k < together; k += a_word, to += PANEL) {
            uint32_t word = 0, mask = bits == 32 ? ~0u : (1u << bits) - 1;
            for (long i = 0; i < a_word; i++) word |= ((uint32_t)integers[k + i] & mask) << (i * bits);
            *to = word;
        }
    }
    return 1;
}

/* The numbers of the next step, of a word from which those before are shifted out. */
static inline __attribute__((always_inline)) vec spread(const int form, ints *word, vec scale, vec least)
{
    ints now = *word;
    *word >>= form == FLOATS ? 0 : 32 / (int)steps_a_word(form);
    if (form == FLOATS) return (vec)now;
    if (form == HALVES) return (vec)(now << 16);
    if (form == BYTES) return __builtin_convertvector(now << 24 >> 24, vec) * scale;
    return __builtin_convertvector(now & LEVELS, vec) * scale + least;
}
